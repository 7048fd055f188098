"""Break the platform under people who talk, and count what they were promised.

Fourteen shoppers and three agents, each agent on two devices, talk on without pause while something dies. Afterwards
every acknowledged message must be in the view of every device and in the history, exactly once and in order; and every
conversation must still take messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from octopus.archive.v1 import archive_service_pb2_grpc
from octopus.session.v1 import session_pb2

from e2e.clients.transports import WebSocket
from e2e.people import Shop
from e2e.running import Octopus
from e2e.talks import BACK_WITHIN_S, ByEdge, Talk, all_speak_after, check_books, talking

pytestmark = pytest.mark.e2e

# Seconds of talk before and after the fault.
BEFORE_S, AFTER_S = 1.0, 1.0
# Seconds for which a process is frozen; twice that is below the time after which the supervisor restarts it.
FROZEN_S = 5.0


Fault = Callable[[list[Talk]], Awaitable[float | None]]


async def survive(octopus: Octopus, shop: Shop, fault: Fault) -> None:
    """Let people talk through a fault, and hold the platform to its promises.

    `fault` gets the talks, breaks something, and returns when it was back (monotonic), or None when nothing has to come
    back.
    """
    async with talking(shop, ByEdge(octopus.edge)) as talks:
        going = [asyncio.create_task(talk.go_on(), name=f"talk-{talk.session_id}") for talk in talks]
        try:
            await asyncio.sleep(BEFORE_S)
            broke_at = time.monotonic()
            returned_at = await fault(talks) or broke_at
            await all_speak_after(talks, returned_at)
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
            await check_books(talk, archive)


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
                await all_speak_after(talks, time.monotonic(), within=FROZEN_S)
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
    async with qingshan.present(agent):
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
    async with talking(qingshan, ByEdge(octopus.edge)):
        await octopus.wipe_valkey()
        for name in ("甲", "乙"):
            newcomer = await qingshan.customer(name)
            session = await qingshan.open_session(newcomer)
            states.append((await qingshan.ask_for_a_person(newcomer, session.id)).state)
    assert states == [session_pb2.SESSION_STATE_ASSIGNED, session_pb2.SESSION_STATE_WAITING]
