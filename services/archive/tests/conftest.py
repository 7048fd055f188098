"""The archive with real stores, and log entries as chat writes them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.bus import Bus, connect
from mesh.identity.files import Identity
from mesh.process.member import Member
from mesh.stores.keyring import Keyring, add_key
from mesh.stores.postgres import Database
from mesh.testing import Platform
from services.archive.config import ArchiveConfig
from services.archive.store import ArchiveStore

_ids = itertools.count(time.time_ns() // 1000)


def new_id() -> int:
    """Return a number that no other test uses."""
    return next(_ids)


def new_tenant() -> str:
    """Return a shop that no other test has."""
    return f"archive-{new_id()}"


def entry(tenant_id: str, session_id: int, text: str, *, customer_id: int = 7) -> chat_events_pb2.LogEntry:
    """Return what chat writes when a customer says something."""
    message = message_pb2.Message(
        id=new_id(),
        session_id=session_id,
        sender=message_pb2.Sender(user_id=customer_id, kind=message_pb2.SENDER_KIND_CUSTOMER, display_name="王小明"),
        client_message_id=f"client-{new_id()}",
        content=message_pb2.Content(text=message_pb2.Text(text=text)),
    )
    message.sent_at.GetCurrentTime()
    return chat_events_pb2.LogEntry(message=message, tenant_id=tenant_id, customer_id=customer_id)


async def publish(bus: Bus, said: chat_events_pb2.LogEntry) -> int:
    """Write an entry to the log as chat does, and return its `seq`."""
    subject = f"log.{said.tenant_id}.{said.message.session_id}"
    return (await bus.publish(subject, said, message_id=str(said.message.id), timeout=30)).seq


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Return as soon as the condition holds; TimeoutError when it does not within the time."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def keyring_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("archive") / "archive.keyring"
    add_key(path)
    return path


@pytest.fixture(scope="session")
def config(migrated: Platform, keyring_file: Path) -> ArchiveConfig:
    # Nobody listens at the address of the session service: who needs it brings one.
    return migrated.config("archive", ArchiveConfig, keyring_file=keyring_file, addresses={"session": "127.0.0.1:9"})


@pytest.fixture(scope="module")
async def member(config: ArchiveConfig) -> AsyncIterator[Member]:
    async with Member(config) as opened:
        yield opened


@pytest.fixture
async def db(member: Member) -> Database:
    return await member.postgres()


@pytest.fixture
def store(keyring_file: Path) -> ArchiveStore:
    return ArchiveStore(Keyring(keyring_file))


@pytest.fixture(scope="module")
async def operator(migrated: Platform) -> AsyncIterator[Bus]:
    """A bus on which everything may be published and read."""
    identity = Identity(migrated.identity, "operator")
    async with connect(migrated.nats_url, "operator", tls=identity.client_context) as bus:
        yield bus
