"""Break the platform under people who talk, and count what they were promised.

Fourteen shoppers and three agents, each agent on two devices, talk on without pause while something dies. Afterwards
every acknowledged message must be in the view of every device and in the history, exactly once and in order; and every
conversation must still take messages.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import message_pb2
from octopus.session.v1 import session_pb2

from e2e.clients.edge import Edge, Identity
from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, WebSocket
from e2e.people import Shop
from e2e.running import Octopus

pytestmark = pytest.mark.e2e

# Conversations: one below what three agents can take at once.
TALKS = 14
# Service must be back within this many seconds of the component's return.
BACK_WITHIN_S = 10.0
# Seconds of talk before and after the fault.
BEFORE_S, AFTER_S = 1.0, 2.0
# Seconds for which a process is frozen; twice that is below the time after which the supervisor restarts it.
FROZEN_S = 5.0


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
async def talking(shop: Shop, edge: Edge) -> AsyncIterator[list[Talk]]:
    """Open the conversations, half of the devices over gRPC and half over WebSocket."""
    agents: list[Identity] = [await shop.staff(login) for login in shop.agents[:3]]
    async with AsyncExitStack() as stack:
        desks: dict[int, Participant] = {}
        tablets: dict[int, Participant] = {}
        for agent in agents:
            await shop.set_status(agent, session_pb2.AGENT_STATUS_AVAILABLE)
            desks[agent.user_id] = await stack.enter_async_context(
                Participant(agent, Grpc(edge, own_connection=True)).connected()
            )
            tablets[agent.user_id] = await stack.enter_async_context(Participant(agent, WebSocket(edge)).connected())
        talks: list[Talk] = []
        for number in range(TALKS):
            identity = await shop.customer(f"顾客{number}")
            session = await shop.open_session(identity)
            offered = await shop.ask_for_a_person(identity, session.id)
            agent = next(a for a in agents if a.user_id == offered.agent_id)
            await shop.accept(agent, session.id)
            transport = WebSocket(edge, json=number % 4 == 1) if number % 2 else Grpc(edge, own_connection=True)
            shopper = await stack.enter_async_context(Participant(identity, transport).connected())
            talks.append(Talk(session.id, shopper, desks[agent.user_id], tablets[agent.user_id]))
        yield talks


Fault = Callable[[list[Talk]], Awaitable[float | None]]


async def survive(octopus: Octopus, shop: Shop, fault: Fault) -> None:
    """Let people talk through a fault, and hold the platform to its promises.

    `fault` gets the talks, breaks something, and returns when it was back (monotonic), or None when nothing has to come
    back.
    """
    async with talking(shop, octopus.edge) as talks:
        going = [asyncio.create_task(talk.go_on(), name=f"talk-{talk.session_id}") for talk in talks]
        try:
            await asyncio.sleep(BEFORE_S)
            broke_at = time.monotonic()
            returned_at = await fault(talks) or broke_at
            await _all_speak_after(talks, returned_at)
            await asyncio.sleep(AFTER_S)
            for task in going:
                assert not task.done(), f"{task.get_name()} ended: {task.exception()!r}"
        finally:
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)
        for talk in talks:
            # A message that was under way when the talk stopped is finished, so that the books can be closed.
            await talk.shopper.say(talk.session_id, "last of the shopper")
            await talk.agent.say(talk.session_id, "last of the agent")
        archive = archive_service_pb2_grpc.ArchiveServiceStub(shop.channel)
        for talk in talks:
            await _check_books(talk, archive)


async def _all_speak_after(talks: list[Talk], returned_at: float, *, within: float = BACK_WITHIN_S) -> None:
    """Wait until every conversation has taken a message after that moment, within the time allowed."""
    try:
        async with asyncio.timeout(within + returned_at - time.monotonic()):
            # Talks are many: one look at all of them is simpler than an event of each.
            while not all(talk.acknowledged_at and talk.acknowledged_at[-1] > returned_at for talk in talks):
                await asyncio.sleep(0.2)
    except TimeoutError:
        silent = [t.session_id for t in talks if not t.acknowledged_at or t.acknowledged_at[-1] <= returned_at]
        pytest.fail(f"{len(silent)} of {len(talks)} conversations took no message within {within} s: {silent}")


async def _check_books(talk: Talk, archive: archive_service_pb2_grpc.ArchiveServiceStub) -> None:
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


@pytest.mark.parametrize(
    "instance", ["chat-1", "bridge-1", "session-1", "control-1", "nats", "postgres", "valkey", "edge"]
)
async def test_people_talk_on_when_a_process_is_killed(instance: str, octopus: Octopus, qingshan: Shop) -> None:
    async def fault(_talks: list[Talk]) -> float:
        pid = octopus.kill(instance)
        await octopus.until_ready(other_than=(instance, pid))
        return time.monotonic()

    await survive(octopus, qingshan, fault)


@pytest.mark.parametrize("instance", ["valkey", "postgres", "control-1", "session-1"])
async def test_nobody_who_talks_notices_a_frozen(instance: str, octopus: Octopus, qingshan: Shop) -> None:
    async def fault(talks: list[Talk]) -> float:
        with octopus.frozen(instance):
            # Whatever was under way at the first moment is over by the second round of all.
            for _ in range(2):
                await _all_speak_after(talks, time.monotonic(), within=FROZEN_S)
        return time.monotonic()

    await survive(octopus, qingshan, fault)


@pytest.mark.parametrize("instance", ["nats", "edge"])
async def test_people_talk_on_after_a_frozen(instance: str, octopus: Octopus, qingshan: Shop) -> None:
    """Without the log nothing is acknowledged, and without the edge nobody gets through."""

    async def fault(talks: list[Talk]) -> float:
        with octopus.frozen(instance):
            frozen_at = time.monotonic()
            # The time for which it is frozen, no wait for something.
            await asyncio.sleep(FROZEN_S)
        late = [talk for talk in talks if max(talk.acknowledged_at, default=0.0) > frozen_at + 1]
        assert not late, "a message was acknowledged without being stored"
        return time.monotonic()

    await survive(octopus, qingshan, fault)


async def test_with_valkey_frozen_a_shopper_reloads_and_asks_for_a_person(octopus: Octopus, qingshan: Shop) -> None:
    agent = await qingshan.staff(qingshan.agents[0])
    await qingshan.set_status(agent, session_pb2.AGENT_STATUS_AVAILABLE)
    shopper = await qingshan.customer("王小明")
    session = await qingshan.open_session(shopper)
    async with qingshan.present(shopper) as first:
        await first.say(session.id, "在吗")
    with octopus.frozen("valkey"):
        # The page is loaded again: it has the conversation at once, and takes messages.
        async with asyncio.timeout(8), qingshan.present(shopper, WebSocket(octopus.edge)) as reloaded:
            await reloaded.until(lambda p: "在吗" in p.texts(session.id))
            assert [each.id for each in reloaded.sessions.values()] == [session.id]
            await reloaded.say(session.id, "我想找人工")
        async with asyncio.timeout(8):
            asked = await qingshan.ask_for_a_person(shopper, session.id)
        assert asked.state == session_pb2.SESSION_STATE_WAITING
        # Attempts to log in are counted in Valkey; who knows the password gets in without.
        qingshan.forget_log_in(qingshan.agents[1])
        async with asyncio.timeout(8):
            await qingshan.staff(qingshan.agents[1])
    async with qingshan.present(shopper) as waiting:
        await waiting.until(
            lambda p: p.sessions[session.id].state == session_pb2.SESSION_STATE_ASSIGNED, timeout=BACK_WITHIN_S
        )


async def test_people_talk_on_when_valkey_forgets_everything(octopus: Octopus, qingshan: Shop) -> None:
    async def fault(_talks: list[Talk]) -> None:
        await octopus.wipe_valkey()

    await survive(octopus, qingshan, fault)
    await qingshan.close_up()
    # The live queue was rebuilt: fourteen of fifteen places are taken, so one newcomer is served and one waits.
    states = []
    async with talking(qingshan, octopus.edge):
        await octopus.wipe_valkey()
        for name in ("甲", "乙"):
            newcomer = await qingshan.customer(name)
            session = await qingshan.open_session(newcomer)
            states.append((await qingshan.ask_for_a_person(newcomer, session.id)).state)
    assert states == [session_pb2.SESSION_STATE_ASSIGNED, session_pb2.SESSION_STATE_WAITING]
