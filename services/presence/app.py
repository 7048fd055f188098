"""Wire the presence service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from octopus.presence.v1.presence_service_pb2_grpc import add_PresenceServiceServicer_to_server

from mesh.process.config import ServiceConfig
from mesh.process.member import Member
from services.presence.servicer import PresenceServicer
from services.presence.store import Presences

_log = structlog.get_logger(__name__)

# How often silent instances of chat are looked for, in seconds.
_SWEEP_S: Final = 1.0


@asynccontextmanager
async def app(member: Member, _: ServiceConfig) -> AsyncIterator[None]:
    """Serve PresenceService, and give up instances of chat that are silent."""
    presences = Presences(await member.valkey())

    async def sweep() -> None:
        while (lost := await presences.lose()) is not None:
            if lost:
                _log.warning("instance of chat lost, its people count as offline", chat=lost)

    member.periodic("lost instances", sweep, every=_SWEEP_S, alone=True)
    servicer = PresenceServicer(presences)
    await member.serve(lambda server: add_PresenceServiceServicer_to_server(servicer, server))
    yield
