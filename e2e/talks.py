"""People who talk on without pause while something breaks, and the books of what they were promised."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import message_pb2
from octopus.session.v1 import session_pb2

from e2e.clients.edge import Edge, Identity
from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, Transport, WebSocket
from e2e.people import Shop

# Conversations: one below what three agents can take at once.
TALKS = 14
# Service must be back within this many seconds of the component's return.
BACK_WITHIN_S = 10.0


class WayIn(Protocol):
    """How devices reach the platform."""

    def grpc(self) -> Transport:
        """Return a gRPC transport with a connection of its own."""

    def websocket(self, *, json: bool = False) -> Transport:
        """Return a WebSocket transport."""


class ByEdge:
    """By one edge."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def grpc(self) -> Transport:
        """Return a gRPC transport with a connection of its own."""
        return Grpc(self._edge, own_connection=True)

    def websocket(self, *, json: bool = False) -> Transport:
        """Return a WebSocket transport."""
        return WebSocket(self._edge, json=json)


@dataclass
class Talk:
    """One conversation between two people who do not stop."""

    session_id: int
    shopper: Participant
    agent: Participant
    # The agent's second device, which only looks on.
    tablet: Participant
    # When messages were acknowledged, on the monotonic clock.
    acknowledged_at: list[float] = field(default_factory=list)

    async def go_on(self) -> None:
        """Talk, in turn, until cancelled."""
        for number in itertools.count():
            speaker = (self.shopper, self.agent)[number % 2]
            await speaker.say(self.session_id, f"{self.session_id}: {number}", timeout=120)
            self.acknowledged_at.append(time.monotonic())
            await asyncio.sleep(0.2)


@asynccontextmanager
async def talking(shop: Shop, way_in: WayIn, *, count: int = TALKS) -> AsyncIterator[list[Talk]]:
    """Open the conversations, half of the devices over gRPC and half over WebSocket."""
    agents: list[Identity] = [await shop.staff(login) for login in shop.agents[:3]]
    async with AsyncExitStack() as stack:
        desks: dict[int, Participant] = {}
        tablets: dict[int, Participant] = {}
        for agent in agents:
            await shop.set_status(agent, session_pb2.AGENT_STATUS_AVAILABLE)
            desks[agent.user_id] = await stack.enter_async_context(Participant(agent, way_in.grpc()).connected())
            tablets[agent.user_id] = await stack.enter_async_context(Participant(agent, way_in.websocket()).connected())
        talks: list[Talk] = []
        for number in range(count):
            identity = await shop.customer(f"顾客{number}")
            session = await shop.open_session(identity)
            offered = await shop.ask_for_a_person(identity, session.id)
            agent = next(a for a in agents if a.user_id == offered.agent_id)
            await shop.accept(agent, session.id)
            transport = way_in.websocket(json=number % 4 == 1) if number % 2 else way_in.grpc()
            shopper = await stack.enter_async_context(Participant(identity, transport).connected())
            talks.append(Talk(session.id, shopper, desks[agent.user_id], tablets[agent.user_id]))
        yield talks


async def all_speak_after(talks: list[Talk], returned_at: float, *, within: float = BACK_WITHIN_S) -> None:
    """Wait until every conversation has taken a message after that moment, within the time allowed."""
    try:
        async with asyncio.timeout(within + returned_at - time.monotonic()):
            # Talks are many: one look at all of them is simpler than an event of each.
            while not all(talk.acknowledged_at and talk.acknowledged_at[-1] > returned_at for talk in talks):
                await asyncio.sleep(0.2)
    except TimeoutError:
        silent = [t.session_id for t in talks if not t.acknowledged_at or t.acknowledged_at[-1] <= returned_at]
        pytest.fail(f"{len(silent)} of {len(talks)} conversations took no message within {within} s: {silent}")


async def check_books(talk: Talk, archive: archive_service_pb2_grpc.ArchiveServiceStub) -> int:
    """Compare what was acknowledged with every view and the history; return how many messages were acknowledged."""
    promised = {
        ack.message_id: ack.seq
        for who in (talk.shopper, talk.agent)
        for ack in who.acks.values()
        if ack.session_id == talk.session_id
    }
    for who in (talk.shopper, talk.agent, talk.tablet):
        await who.until(lambda p: promised.keys() <= {m.id for m in p.shown}, timeout=BACK_WITHIN_S)
        shown = [m for m in who.shown if m.session_id == talk.session_id]
        assert len({m.id for m in shown}) == len(shown), "shown twice"
        # What others said comes in the order of the log; own messages take their place when acknowledged.
        others = [m.seq for m in shown if m.sender.user_id != who.identity.user_id]
        assert others == sorted(others), "shown out of order"
        assert {m.id: m.seq for m in shown if m.id in promised} == promised

    history: dict[int, int] = {}
    deadline = time.monotonic() + BACK_WITHIN_S
    while not promised.keys() <= history.keys():
        assert time.monotonic() < deadline, (
            f"{len(promised.keys() - history.keys())} acknowledged messages not in history"
        )
        history = await _history(talk, archive)
    assert {m: history[m] for m in promised} == promised
    words = [text for text in talk.agent.texts(talk.session_id) if text.startswith(f"{talk.session_id}: ")]
    numbers = [int(text.split(": ")[1]) for text in words]
    assert numbers == sorted(numbers), "the turns of the talk changed places"
    return len(promised)


async def _history(talk: Talk, archive: archive_service_pb2_grpc.ArchiveServiceStub) -> dict[int, int]:
    """Return id and position of all messages in the history; fails when one is there twice or out of order."""
    messages: list[message_pb2.Message] = []
    page_token = ""
    while True:
        page = await archive.ListMessages(
            archive_service_pb2.ListMessagesRequest(session_id=talk.session_id, page_size=200, page_token=page_token),
            metadata=talk.agent.identity.metadata,
        )
        messages.extend(page.messages)
        page_token = page.next_page_token
        if not page_token:
            break
    positions = [message.seq for message in messages]
    assert positions == sorted(set(positions), reverse=True), "history is out of order or has an entry twice"
    assert len({message.id for message in messages}) == len(messages)
    return {message.id: message.seq for message in messages}
