"""Wire the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.archive.v1 import archive_service_pb2_grpc
from octopus.chat.v1 import chat_events_pb2
from octopus.session.v1 import session_service_pb2_grpc

from mesh.bus import streams
from mesh.process.member import Member
from mesh.stores.keyring import Keyring
from services.archive.config import ArchiveConfig
from services.archive.events import Archivist
from services.archive.servicer import ArchiveServicer
from services.archive.store import ArchiveStore


@asynccontextmanager
async def app(member: Member, config: ArchiveConfig) -> AsyncIterator[None]:
    """Write the log into the history, and serve ArchiveService."""
    db = await member.postgres()
    store = ArchiveStore(Keyring(config.keyring_file))
    archivist = Archivist(db=db, store=store)
    log = member.bus.consume_batches(
        streams.LOG,
        "archive",
        ["log.*.*"],
        chat_events_pb2.LogEntry,
        archivist.keep,
        batch=config.batch_size,
        wait=config.batch_wait_s,
    )
    member.spawn("log consumer", log)
    sessions = session_service_pb2_grpc.SessionServiceStub(member.channel("session"))
    servicer = ArchiveServicer(db=db, store=store, sessions=sessions)
    await member.serve(lambda server: archive_service_pb2_grpc.add_ArchiveServiceServicer_to_server(servicer, server))
    yield
