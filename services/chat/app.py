"""Wires the chat service."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.chat.v1 import chat_service_pb2_grpc, relay_service_pb2_grpc

from mesh.bus.streams import LOG, window_of
from mesh.process.member import Member
from mesh.rpc.admission import Admission
from services.chat.config import ChatConfig
from services.chat.conversation import Conversation
from services.chat.earlier import EarlierMessages
from services.chat.first_posts import FirstPosts
from services.chat.history import HistoryClient
from services.chat.log_extent import LogExtent
from services.chat.posting import Posting
from services.chat.presence import PresenceClient, PresenceReporter
from services.chat.registry import ConnectionRegistry
from services.chat.relay_servicer import RelayServicer
from services.chat.rooms import SWEEP_S
from services.chat.screening.lists import REFRESH_S, WordLists
from services.chat.screening.moderation import ModerationClient
from services.chat.screening.screen import Screen, hear_changes
from services.chat.servicer import ChatServicer
from services.chat.sessions import SessionClient
from services.chat.store import Receipts
from services.chat.streams import Streams


@asynccontextmanager
async def app(member: Member, config: ChatConfig) -> AsyncIterator[None]:
    """Open what the service needs, serve, and end all streams with a goodbye."""
    bus = member.bus
    extent = LogExtent(bus)
    registry = ConnectionRegistry(
        bus,
        SessionClient(member.channel("session")),
        extent,
        replay_page=config.replay_page,
        resume_limit=config.resume_messages,
        tail_memory_bytes=config.resume_memory_bytes,
    )
    history = HistoryClient(member.channel("archive"))
    first_posts = FirstPosts(bus, extent, history, window=window_of(LOG))
    ids = await member.ids()
    word_lists = WordLists(ModerationClient(member.channel("moderation")))
    await hear_changes(bus, word_lists)
    screen = Screen(word_lists, bus, ids, timeout=config.publish_timeout_s)
    conversation = Conversation(
        registry,
        Posting(bus, ids, first_posts, EarlierMessages(bus, history), screen, timeout=config.publish_timeout_s),
        Receipts(await member.valkey()),
        bus,
        burst=config.rate_burst,
        per_second=config.rate_per_second,
    )
    streams = Streams(config, registry, conversation, member.keys.revocations)
    member.keys.revocations.listen(streams.log_out)
    servicer = ChatServicer(streams, conversation)
    admission = Admission("/octopus.chat.v1.ChatService/Converse", member.keys, caller="bridge")
    # A process that comes back under the same name is another one.
    process = f"{config.instance}.{uuid.uuid4().hex[:8]}"
    relay = RelayServicer(streams, admission, process)
    presence = PresenceReporter(process, registry, PresenceClient(member.channel("presence")))
    bus.on_reconnect(registry.repair)
    member.spawn("watch connections", streams.watch())
    member.spawn("report presence", presence.run())
    member.periodic("close idle rooms", registry.rooms.sweep, every=SWEEP_S)
    member.periodic("old word lists", word_lists.refresh, every=REFRESH_S)
    member.on_stop(streams.drain)
    member.on_stop(relay.drain)
    await member.serve(
        lambda server: chat_service_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server),
        lambda server: relay_service_pb2_grpc.add_RelayServiceServicer_to_server(relay, server),
    )
    try:
        yield
    finally:
        await word_lists.close()
