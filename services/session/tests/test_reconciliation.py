"""What dies in between is made good: the queue wiped, frozen or gone, and instances that left half of their work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from mesh.testing import Platform
from services.session.domain import AgentStatus, EndReason, HandoffReason, SessionState
from services.session.events import SessionChanged
from services.session.tests.parts import Parts, answers, eventually, parts, shopper

pytestmark = pytest.mark.store

AGENT, COLLEAGUE = 900, 901
AVAILABLE, AWAY = AgentStatus.AVAILABLE, AgentStatus.AWAY


async def test_a_wiped_queue_is_built_again_by_whoever_needs_it(
    migrated: Platform, one: Parts, other: Parts, tenant: str
) -> None:
    await one.status(tenant, AGENT, AVAILABLE, capacity=2)
    sessions = [await part.wait(tenant, customer) for customer, part in enumerate((one, other) * 3, 1)]
    await migrated.valkey.wipe()
    # All at once and on both instances: one ends, and new ones come.
    _, *more = await asyncio.gather(
        one.lifecycle.end(shopper(tenant, 1), sessions[0].id),
        *(part.wait(tenant, customer) for customer, part in enumerate((one, other) * 3, 101)),
    )
    now = [await one.session(session) for session in sessions]
    assert [session.state for session in now] == [
        SessionState.ENDED,
        *[SessionState.ASSIGNED] * 2,
        *[SessionState.WAITING] * 3,
    ]
    assert sorted([(await one.session(session)).queue_position for session in more]) == [4, 5, 6, 7, 8, 9]


async def test_a_wiped_queue_is_built_again_by_reconciliation(migrated: Platform, one: Parts, tenant: str) -> None:
    waiting = [await one.wait(tenant, customer) for customer in (1, 2)]
    await migrated.valkey.wipe()
    await one.reconciliation.reconcile()
    assert (await one.queue.snapshot(tenant)).sessions == {session.id for session in waiting}


async def test_what_a_dead_instance_committed_is_brought_to_the_queue(one: Parts, other: Parts, tenant: str) -> None:
    """It died between PostgreSQL and Valkey: a session waits unknown, and a place is taken by one that is over."""
    await one.status(tenant, AGENT, AVAILABLE, capacity=1)
    seated = await one.wait(tenant, 1)
    next_one = await one.wait(tenant, 2)
    async with one.store.unit_of_work(tenant) as work:
        before = await work.session(seated.id)
        assert before is not None
        await work.save(before, before.end(EndReason.CUSTOMER, work.now), SessionChanged.ENDED)
    assert (await one.session(next_one)).state is SessionState.WAITING
    await other.assigner.reconcile(tenant)
    assert (await one.session(next_one)).state is SessionState.ASSIGNED

    unknown = await one.open(tenant, 3)
    async with one.store.unit_of_work(tenant) as work:
        before = await work.session(unknown.id)
        assert before is not None
        await work.save(before, before.ask_person(HandoffReason.BUTTON, work.now), SessionChanged.HANDOFF_REQUESTED)
    await other.status(tenant, COLLEAGUE, AVAILABLE)
    await other.assigner.reconcile(tenant)
    assert (await one.session(unknown)).agent_id == COLLEAGUE


async def test_a_proposal_of_a_dead_instance_is_carried_out_by_another(one: Parts, other: Parts, tenant: str) -> None:
    waiting = await one.wait(tenant, 1)
    agent = await one.status(tenant, AGENT, AWAY)
    async with one.store.unit_of_work(tenant) as work:
        await work.save_agent(agent, available := agent.change(status=AVAILABLE))
    # The proposal is made, and its instance dies.
    assert len(await one.queue.project(tenant, agents=[available])) == 1

    async def offered() -> bool:
        await other.assigner.reconcile(tenant)
        return (await one.session(waiting)).agent_id == AGENT

    await eventually(offered, "the other instance carries the proposal out")


async def test_a_queue_that_believes_too_much_is_put_right(one: Parts, tenant: str) -> None:
    """A crash of Valkey can lose its last second: here, that an agent's only place is taken."""
    agent = await one.status(tenant, AGENT, AVAILABLE, capacity=1)
    await one.wait(tenant, 1)
    await one.queue.build(tenant, sessions=[], agents=[agent])
    second = await one.wait(tenant, 2)
    assert second.state is SessionState.WAITING
    found = await one.store.agent(tenant, AGENT)
    assert found is not None
    assert found.load == 1


@asynccontextmanager
async def frozen(platform: Platform) -> AsyncIterator[None]:
    platform.valkey.pause()
    try:
        yield
    finally:
        platform.valkey.resume()


@asynccontextmanager
async def killed(platform: Platform) -> AsyncIterator[None]:
    await platform.valkey.kill()
    try:
        yield
    finally:
        await platform.valkey.start()


@pytest.mark.parametrize("fault", [frozen, killed])
async def test_without_valkey_everything_is_recorded_and_assigned_when_it_is_back(
    migrated: Platform, tenant: str, fault: Callable[[Platform], AbstractAsyncContextManager[None]]
) -> None:
    async with parts(migrated, "session-4") as part:
        await part.status(tenant, AGENT, AVAILABLE, capacity=1)
        talking, waiting, bot = await part.wait(tenant, 1), await part.wait(tenant, 2), await part.open(tenant, 3)
        async with fault(migrated):
            # Nobody waits longer than a moment, and the second call not even that.
            async with asyncio.timeout(8):
                asked = await part.hand_off(bot)
            assert (asked.state, asked.queue_position) == (SessionState.WAITING, 2)
            async with asyncio.timeout(8):
                await part.status(tenant, COLLEAGUE, AVAILABLE, capacity=1)
                await part.lifecycle.accept(answers(tenant, AGENT), talking.id)
                await part.lifecycle.end(shopper(tenant, 1), talking.id)
            assert (await part.session(waiting)).state is SessionState.WAITING

        async def assigned() -> bool:
            # Each turn looks at the shops whose queue missed something.
            with suppress(ExceptionGroup):
                await part.assigner.catch_up()
            found = [await part.session(session) for session in (waiting, bot)]
            return {session.agent_id for session in found} == {AGENT, COLLEAGUE}

        await eventually(assigned, "both who waited are offered to somebody")


async def test_what_was_recorded_without_valkey_is_assigned_by_another_instance(
    migrated: Platform, one: Parts, tenant: str
) -> None:
    """The instance that recorded it dies before Valkey is back."""
    await one.status(tenant, AGENT, AVAILABLE, capacity=1)
    async with parts(migrated, "session-4") as dying:
        bot = await dying.open(tenant, 1)
        async with frozen(migrated):
            await dying.hand_off(bot)

    async def assigned() -> bool:
        with suppress(ExceptionGroup):
            await one.reconciliation.reconcile()
        return (await one.session(bot)).agent_id == AGENT

    await eventually(assigned, "another instance offers it")
