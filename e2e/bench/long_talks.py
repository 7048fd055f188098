"""Gives sessions a past, so that whoever comes back to them has much to catch up with."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from typing import Final

from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.session.v1 import session_pb2

from e2e.running import Octopus
from mesh.bus import Bus, connect
from mesh.identity.files import Identity
from mesh.platform.folder import Folder

# Messages under way to the log at once.
_AT_ONCE: Final = 128
_ids = itertools.count(time.time_ns())


async def fill(octopus: Octopus, sessions: Iterable[session_pb2.Session], messages: int) -> None:
    """Store so many messages in the log of each session, past the edge and its limits."""
    identity = Identity(Folder(octopus.root).identity, "operator")
    # Few tasks for all: tens of thousands that begin at once would hold up the answers to those under way.
    work = ((session, number) for session in sessions for number in range(messages))

    async def lane(bus: Bus) -> None:
        for session, number in work:
            await _store(bus, session, number)

    nats = octopus.status()["endpoints"]["nats"]
    async with connect(nats if "://" in nats else f"nats://{nats}", "bench", tls=identity.client_context) as bus:
        await asyncio.gather(*(lane(bus) for _ in range(_AT_ONCE)))


async def _store(bus: Bus, session: session_pb2.Session, number: int) -> None:
    message = message_pb2.Message(
        id=next(_ids),
        session_id=session.id,
        sender=message_pb2.Sender(user_id=session.customer_id, kind=message_pb2.SENDER_KIND_CUSTOMER),
        client_message_id=f"long-talk-{number}",
        content=message_pb2.Content(text=message_pb2.Text(text=f"第 {number} 句：这件衣服还有大码吗？什么时候发货？")),
    )
    message.sent_at.GetCurrentTime()
    entry = chat_events_pb2.LogEntry(
        message=message,
        tenant_id=session.tenant_id,
        customer_id=session.customer_id,
        session_state=session_pb2.SESSION_STATE_ACTIVE,
    )
    await bus.publish(f"log.{session.tenant_id}.{session.id}", entry, message_id=f"bench-{message.id}", timeout=60)
