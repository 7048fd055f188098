"""A chat instance stops answering without dying: its people are served elsewhere, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import psutil
import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import frame_pb2, message_pb2

from e2e.clients.grpc_web import GrpcWeb, GrpcWebClient
from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, Transport, WebSocket
from e2e.people import Shop
from e2e.running import Octopus

pytestmark = pytest.mark.e2e

# People are served again within this many seconds: 5 until the instance is left, and a new stream.
SERVED_WITHIN_S = 10.0
# For how long the instance is frozen; shorter than the supervisor waits before it kills it.
FROZEN_S = 9.0


@dataclass
class Person:
    """Somebody with a session on the instance in question."""

    session_id: int
    device: Participant

    async def post(self, number: int) -> frame_pb2.Ack:
        """Send a message with an id of its own, and return when it is durable."""
        post = frame_pb2.PostMessage(
            session_id=self.session_id,
            client_message_id=f"message-{number}",
            content=message_pb2.Content(text=message_pb2.Text(text=f"谢谢 {number}")),
        )
        return await self.device.post(post, timeout=SERVED_WITHIN_S)


async def connections(octopus: Octopus, instance: str) -> int:
    """Return how many streams an instance has."""
    address = next(each["metrics"] for each in octopus.status()["processes"] if each["instance"] == instance)
    url = address if "://" in address else f"http://{address}/metrics"
    async with httpx.AsyncClient() as client:
        found = re.search(r"^octopus_chat_connections (\S+)$", (await client.get(url)).text, re.MULTILINE)
    return int(float(found[1])) if found else 0


async def person_on(
    instance: str, octopus: Octopus, shop: Shop, transport: Callable[[], Transport], stack: AsyncExitStack
) -> Person:
    """Return somebody whose stream is on an instance; others, who are sent to another one, are let go again."""
    async with asyncio.timeout(60):
        while True:
            before = await connections(octopus, instance)
            identity = await shop.visitor()
            session = await shop.open_session(identity)
            async with AsyncExitStack() as own:
                device = await own.enter_async_context(Participant(identity, transport()).connected())
                if await connections(octopus, instance) > before:
                    stack.push_async_exit(own.pop_all())
                    return Person(session.id, device)


@contextlib.asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Stop a process in its tracks, and let it go on after a while."""
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    try:
        yield
        await asyncio.sleep(max(0.0, frozen_at + FROZEN_S - time.monotonic()))
    finally:
        # On a machine that is slower than this test the supervisor has killed it by now.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


async def test_people_on_a_frozen_chat_instance_are_served_elsewhere(
    octopus: Octopus, qingshan: Shop, browser: GrpcWebClient
) -> None:
    edge = octopus.edge
    ways: list[Callable[[], Transport]] = [
        lambda: Grpc(edge, own_connection=True),
        lambda: WebSocket(edge),
        lambda: WebSocket(edge, json=True),
        lambda: GrpcWeb(browser),
    ]
    async with AsyncExitStack() as stack:
        people = [await person_on("chat-1", octopus, qingshan, way, stack) for way in ways]
        for person in people:
            await person.post(1)
        # One message of each is on its way into the instance when it stops, others are sent to it when it has stopped.
        async with frozen(octopus.pid("chat-1")):
            acks = await asyncio.gather(*(person.post(number) for person in people for number in (2, 3)))
        assert not [ack for ack in acks if not ack.seq]
        # What was under way in the instance goes on when it thaws.
        for person in people:
            await person.post(4)
            await person.device.until(
                lambda p, person=person: _own(p.shown, person) >= {f"message-{n}" for n in (1, 2, 3, 4)},  # type: ignore[misc]
                timeout=SERVED_WITHIN_S,
            )
        archive = archive_service_pb2_grpc.ArchiveServiceStub(qingshan.channel)
        for person in people:
            shown = [m for m in person.device.shown if m.session_id == person.session_id]
            assert len({m.id for m in shown}) == len(shown), "shown twice"
            await _once_in_the_history(person, archive)


def _own(messages: list[message_pb2.Message], person: Person) -> set[str]:
    return {m.client_message_id for m in messages if m.session_id == person.session_id}


async def _once_in_the_history(person: Person, archive: archive_service_pb2_grpc.ArchiveServiceStub) -> None:
    wanted = [f"message-{number}" for number in (1, 2, 3, 4)]
    async with asyncio.timeout(SERVED_WITHIN_S):
        while True:
            page = await archive.ListMessages(
                archive_service_pb2.ListMessagesRequest(session_id=person.session_id, page_size=200),
                metadata=person.device.identity.metadata,
            )
            kept = sorted(m.client_message_id for m in page.messages if m.client_message_id.startswith("message-"))
            if len(kept) >= len(wanted):
                break
            await asyncio.sleep(0.1)
    assert kept == wanted
