"""Wire the moderation service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.moderation.v1.moderation_service_pb2_grpc import add_ModerationServiceServicer_to_server

from mesh.bus.outbox import Outbox
from mesh.process.config import ServiceConfig
from mesh.process.member import Member
from services.moderation import base_words
from services.moderation.events import Hits
from services.moderation.servicer import ModerationServicer
from services.moderation.words import Words


@asynccontextmanager
async def app(member: Member, _: ServiceConfig) -> AsyncIterator[None]:
    """Serve ModerationService, tell of changes, and record what was found."""
    db = await member.postgres()
    ids = await member.ids()
    outbox = Outbox(db, "cs_moderation_outbox")
    hits = Hits(db, ids)
    member.spawn("outbox relay", outbox.relay(member.bus))
    member.spawn("words found", hits.run(member.bus))
    servicer = ModerationServicer(Words(db, outbox, ids), hits, base_words.read())
    await member.serve(lambda server: add_ModerationServiceServicer_to_server(servicer, server))
    yield
