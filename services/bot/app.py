"""Wire the bot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.bot.v1 import bot_service_pb2_grpc
from octopus.chat.v1 import chat_events_pb2

from mesh.bus import streams
from mesh.process.member import Member
from services.bot.answering import Answering
from services.bot.config import BotConfig
from services.bot.domain import Thresholds
from services.bot.events import Participant, is_for_the_bot
from services.bot.servicer import BotServicer
from services.bot.services import ChatClient, KnowledgeClient, SessionClient


@asynccontextmanager
async def app(member: Member, config: BotConfig) -> AsyncIterator[None]:
    """Take part in conversations, and serve BotService."""
    thresholds = Thresholds(
        answer=config.answer_confidence,
        suggest=config.suggest_score,
        suggest_english=config.suggest_score_english,
        own_language=config.own_language_margin,
    )
    answering = Answering(KnowledgeClient(member.channel("knowledge")), thresholds)
    participant = Participant(
        answering=answering,
        chat=ChatClient(member.channel("chat")),
        sessions=SessionClient(member.channel("session")),
        log=member.bus,
    )
    conversations = member.bus.consume(
        streams.LOG,
        "bot",
        ["log.*.*"],
        chat_events_pb2.LogEntry,
        participant.take,
        max_in_flight=config.max_in_flight,
        key=lambda entry: entry.message.session_id,
        # Most of the log is people talking with people.
        wanted=is_for_the_bot,
    )
    member.spawn("log consumer", conversations)
    servicer = BotServicer(answering)
    await member.serve(lambda server: bot_service_pb2_grpc.add_BotServiceServicer_to_server(servicer, server))
    yield
