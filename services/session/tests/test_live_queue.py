"""The live queue in Valkey: who is proposed to whom."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.session.assignment.live_queue import NotBuilt, Proposal
from services.session.domain import Agent, AgentStatus, EndReason, HandoffReason, Session
from services.session.tests.parts import Parts

pytestmark = pytest.mark.store

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
# Larger than what a double holds exactly, as real ids are.
BASE = 9_100_000_000_000_000_001


def waiting(tenant: str, number: int) -> Session:
    session = Session(
        id=BASE + number,
        tenant_id=tenant,
        customer_id=number,
        customer_name="",
        channel="web",
        locale="",
        opened_at=NOON,
    )
    return session.ask_person(HandoffReason.BUTTON, NOON + timedelta(microseconds=number))


def available(tenant: str, number: int, capacity: int = 5, **values: object) -> Agent:
    agent = Agent(
        tenant_id=tenant, user_id=BASE + number, display_name="", status=AgentStatus.AVAILABLE, capacity=capacity
    )
    return replace(agent, version=1, **values)  # type: ignore[arg-type]  # fields of the test's choice


def taken(session: Session, agent: Agent) -> Session:
    return session.offer(agent, NOON)


async def test_a_queue_that_was_never_built_says_so_and_keeps_nothing(one: Parts, tenant: str) -> None:
    with pytest.raises(NotBuilt):
        await one.queue.project(tenant, sessions=[waiting(tenant, 1)])
    with pytest.raises(NotBuilt):
        await one.queue.snapshot(tenant)
    await one.queue.build(tenant, sessions=[], agents=[])
    assert (await one.queue.snapshot(tenant)).sessions == frozenset()


async def test_who_asked_first_is_proposed_first_whatever_the_order_of_arrival(one: Parts, tenant: str) -> None:
    await one.queue.build(tenant, sessions=[], agents=[])
    for number in (3, 1, 2):
        assert await one.queue.project(tenant, sessions=[waiting(tenant, number)]) == []
    proposals = await one.queue.project(tenant, agents=[available(tenant, 50, capacity=2)])
    assert [proposal.session_id - BASE for proposal in proposals] == [1, 2]
    assert {proposal.agent_id for proposal in proposals} == {BASE + 50}


async def test_the_least_loaded_is_chosen_and_among_equals_the_one_longest_without(one: Parts, tenant: str) -> None:
    agents = [
        available(tenant, 50, last_assigned_at=NOON),
        available(tenant, 51, last_assigned_at=NOON - timedelta(hours=1)),
        available(tenant, 52, last_assigned_at=NOON - timedelta(hours=2)),
    ]
    busy = taken(waiting(tenant, 9), agents[2])
    await one.queue.build(tenant, sessions=[busy], agents=agents)
    proposals = await one.queue.project(tenant, sessions=[waiting(tenant, number) for number in range(1, 6)])
    # 51 and 50 have nobody, 51 waited longer; then all have one, 52 was given its own longest ago.
    assert [proposal.agent_id - BASE for proposal in proposals] == [51, 50, 52, 51, 50]


@pytest.mark.parametrize("status", [AgentStatus.BUSY, AgentStatus.AWAY])
async def test_only_available_agents_are_chosen(one: Parts, tenant: str, status: AgentStatus) -> None:
    agent = available(tenant, 50).change(status=status)
    await one.queue.build(tenant, sessions=[waiting(tenant, 1)], agents=[agent])
    assert await one.queue.project(tenant) == []
    assert len(await one.queue.project(tenant, agents=[agent.change(status=AgentStatus.AVAILABLE)])) == 1


async def test_a_proposal_takes_a_place_until_a_newer_version_comes(one: Parts, tenant: str) -> None:
    agent = available(tenant, 50, capacity=1)
    await one.queue.build(tenant, sessions=[], agents=[agent])
    first, second = waiting(tenant, 1), waiting(tenant, 2)
    assert len(await one.queue.project(tenant, sessions=[first, second])) == 1
    # Repeating what is known does not free the place.
    assert await one.queue.project(tenant, sessions=[first], agents=[agent]) == []
    assert await one.queue.project(tenant, sessions=[taken(first, agent)]) == []
    over = taken(first, agent).end(EndReason.CUSTOMER, NOON)
    (proposal,) = await one.queue.project(tenant, sessions=[over])
    assert proposal == Proposal(second.id, second.version, agent.user_id)


async def test_an_older_row_changes_nothing(one: Parts, tenant: str) -> None:
    agent = available(tenant, 50, capacity=1)
    session = taken(waiting(tenant, 1), agent)
    over = session.end(EndReason.CUSTOMER, NOON)
    await one.queue.build(tenant, sessions=[session], agents=[agent])
    await one.queue.project(tenant, sessions=[over])
    await one.queue.project(tenant, sessions=[session, waiting(tenant, 1)])
    assert (await one.queue.snapshot(tenant)).sessions == frozenset()
    assert len(await one.queue.project(tenant, sessions=[waiting(tenant, 2)])) == 1
    away = agent.change(status=AgentStatus.AWAY)
    await one.queue.project(tenant, agents=[away])
    await one.queue.project(
        tenant, agents=[agent], sessions=[taken(waiting(tenant, 2), agent).end(EndReason.IDLE, NOON)]
    )
    assert await one.queue.project(tenant, sessions=[waiting(tenant, 3)]) == []


async def test_a_withdrawn_proposal_waits_where_it_stood(one: Parts, tenant: str) -> None:
    agent = available(tenant, 50, capacity=1)
    await one.queue.build(tenant, sessions=[waiting(tenant, 1), waiting(tenant, 2)], agents=[agent])
    (proposal,) = await one.queue.project(tenant)
    away = agent.change(status=AgentStatus.AWAY)
    assert await one.queue.project(tenant, withdrawn=[proposal], agents=[away]) == []
    (again,) = await one.queue.project(tenant, agents=[away.change(status=AgentStatus.AVAILABLE)])
    assert again.session_id == proposal.session_id


async def test_a_proposal_that_nobody_carries_out_is_found(one: Parts, tenant: str) -> None:
    await one.queue.build(tenant, sessions=[waiting(tenant, 1)], agents=[available(tenant, 50)])
    (proposal,) = await one.queue.project(tenant)
    while not (stale := (await one.queue.snapshot(tenant)).stale):
        pass
    assert stale == [proposal]


async def test_more_rows_than_fit_into_one_call_keep_their_order(one: Parts, tenant: str) -> None:
    many = [waiting(tenant, number) for number in range(1, 1301)]
    await one.queue.build(tenant, sessions=[], agents=[available(tenant, 2000, capacity=3)])
    # Nothing may be proposed before all have arrived: the first come last here.
    proposals = await one.queue.project(tenant, sessions=list(reversed(many)))
    assert [proposal.session_id for proposal in proposals] == [session.id for session in many[:3]]


async def test_positions_are_told_once_and_only_when_they_changed(one: Parts, tenant: str) -> None:
    first, second, third = (waiting(tenant, number) for number in (1, 2, 3))
    await one.queue.build(tenant, sessions=[first, second], agents=[])
    assert await one.queue.changed_positions(tenant, limit=10) == {first.id: 1, second.id: 2}
    assert await one.queue.changed_positions(tenant, limit=10) == {}
    await one.queue.project(tenant, sessions=[third, first.end(EndReason.CUSTOMER, NOON)])
    assert await one.queue.changed_positions(tenant, limit=1) == {second.id: 1}
    assert await one.queue.changed_positions(tenant, limit=10) == {third.id: 2}
    await one.queue.untell(tenant, [third.id])
    assert await one.queue.changed_positions(tenant, limit=10) == {third.id: 2}


async def test_one_instance_at_a_time_tells_positions(one: Parts, other: Parts, tenant: str) -> None:
    async with one.queue.telling(tenant) as mine, other.queue.telling(tenant) as theirs:
        assert (mine, theirs) == (True, False)
    async with other.queue.telling(tenant) as theirs:
        assert theirs


async def test_shops_do_not_touch_each_other(one: Parts, tenant: str) -> None:
    elsewhere = f"{tenant}-b"
    await one.queue.build(tenant, sessions=[waiting(tenant, 1)], agents=[])
    await one.queue.build(elsewhere, sessions=[], agents=[available(elsewhere, 50)])
    assert await one.queue.project(tenant) == []
    assert await one.queue.project(elsewhere) == []


async def test_the_index_of_free_agents_keeps_the_order_through_every_change(one: Parts, tenant: str) -> None:
    """Agents come, go and fill up; each offer goes to the least loaded, then to who was given one longest ago."""
    chance = random.Random(7)
    agents = {number: available(tenant, number, capacity=3) for number in range(1, 8)}
    load: dict[int, list[Session]] = {number: [] for number in agents}
    given = dict.fromkeys(agents, 0)
    await one.queue.build(tenant, sessions=[], agents=list(agents.values()))
    for number in range(100, 400):
        moved = chance.choice(list(agents))
        if chance.random() < 0.3:
            status = chance.choice(list(AgentStatus))
            agents[moved] = agents[moved].change(status=status)
            assert await one.queue.project(tenant, agents=[agents[moved]]) == []
        elif load[moved] and chance.random() < 0.6:
            over = load[moved].pop().end(EndReason.CUSTOMER, NOON)
            assert await one.queue.project(tenant, sessions=[over]) == []
        free = [each for each, agent in agents.items() if agent.status is AgentStatus.AVAILABLE and len(load[each]) < 3]
        if not free:
            continue
        expected = min(free, key=lambda each: (len(load[each]), given[each], str(BASE + each)))
        session = waiting(tenant, number)
        (proposal,) = await one.queue.project(tenant, sessions=[session])
        assert proposal.agent_id == BASE + expected
        given[expected] = number
        load[expected].append(taken(session, agents[expected]))
        assert await one.queue.project(tenant, sessions=[load[expected][-1]]) == []
