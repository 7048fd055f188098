"""Wires the chat service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.chat.v1 import chat_service_pb2_grpc

from mesh.process.member import Member
from services.chat.config import ChatConfig
from services.chat.conversation import Conversation
from services.chat.posting import Posting
from services.chat.registry import ConnectionRegistry
from services.chat.servicer import ChatServicer
from services.chat.sessions import SessionClient
from services.chat.store import Receipts


@asynccontextmanager
async def app(member: Member, config: ChatConfig) -> AsyncIterator[None]:
    """Open what the service needs, serve, and say goodbye to everybody at the end."""
    bus = member.bus
    registry = ConnectionRegistry(bus, SessionClient(member.channel("session")), config.replay_page)
    conversation = Conversation(
        registry,
        Posting(bus, await member.ids(), timeout=config.publish_timeout_s),
        Receipts(await member.valkey()),
        bus,
        burst=config.rate_burst,
        per_second=config.rate_per_second,
    )
    servicer = ChatServicer(config, registry, conversation)
    bus.on_reconnect(registry.repair)
    member.spawn("watch-connections", servicer.watch())
    member.on_stop(servicer.drain)
    await member.serve(lambda server: chat_service_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server))
    yield
