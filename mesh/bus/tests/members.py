"""Buses of real members on the tests' NATS, and a wait that has a deadline."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.chat.v1.message_pb2 import Message

from mesh.bus import Bus, connect
from mesh.identity.files import Identity
from mesh.testing import Platform


def member(platform: Platform, name: str) -> AbstractAsyncContextManager[Bus]:
    """A bus as that member."""
    return connect(platform.nats_url, name, tls=Identity(platform.identity, name).client_context)


def entry(number: int, tenant: str = "qingshan") -> LogEntry:
    """A log entry that can be told from the others."""
    return LogEntry(tenant_id=tenant, message=Message(id=number))


async def until(condition: Callable[[], bool], *, within: float = 40.0) -> None:
    """Returns as soon as the condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)
