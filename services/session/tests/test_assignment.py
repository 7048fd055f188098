"""Two instances on one database and one live queue: who waits is served, in order, and no more than fit."""

# ruff: noqa: S608  # the tests' own shops and ids

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from octopus.session.v1.session_events_pb2 import SessionEvent, SessionNotice
from octopus.session.v1.session_pb2 import REQUEUE_REASON_NOT_ACCEPTED

from mesh.testing import Platform
from services.session.domain import (
    AgentStatus,
    AwayReason,
    Ended,
    EndReason,
    NotFound,
    Session,
    SessionState,
    WrongState,
)
from services.session.tests.parts import Parts, answers, eventually, parts, shopper
from services.session.tests.service import looking_on

pytestmark = pytest.mark.store

AGENT, COLLEAGUE = 900, 901
AVAILABLE, BUSY, AWAY = AgentStatus.AVAILABLE, AgentStatus.BUSY, AgentStatus.AWAY


async def events_of(platform: Platform, session: Session) -> list[SessionEvent]:
    """What lies in the outbox, which no relay empties here."""
    rows = await platform.postgres.execute(
        "SELECT payload FROM cs_session_outbox"
        f" WHERE subject = 'event.session.{session.tenant_id}.{session.id}' ORDER BY id"
    )
    return [SessionEvent.FromString(payload) for (payload,) in rows]


async def test_a_customer_has_one_open_session_however_many_ask_at_once(one: Parts, other: Parts, tenant: str) -> None:
    opened = await asyncio.gather(*(part.open(tenant, 1) for part in (one, other) for _ in range(5)))
    assert len({session.id for session in opened}) == 1
    await one.lifecycle.end(shopper(tenant, 1), opened[0].id)
    assert (await other.open(tenant, 1)).id != opened[0].id


async def test_a_handoff_without_agents_waits_with_its_position(one: Parts, other: Parts, tenant: str) -> None:
    places = [(await part.wait(tenant, customer)).queue_position for customer, part in enumerate((one, other, one), 1)]
    assert places == [1, 2, 3]


async def test_a_handoff_is_offered_at_once_to_the_least_loaded(one: Parts, other: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    await other.status(tenant, COLLEAGUE, AVAILABLE)
    sessions = [await part.wait(tenant, customer) for customer, part in enumerate((one, other, one, other), 1)]
    assert {session.state for session in sessions} == {SessionState.ASSIGNED}
    assert sorted(session.agent_id for session in sessions) == [AGENT, AGENT, COLLEAGUE, COLLEAGUE]


async def test_asking_again_changes_nothing(one: Parts, tenant: str) -> None:
    first = await one.wait(tenant, 1)
    again = await one.hand_off(first)
    assert (again.version, again.queue_position) == (first.version, 1)


async def test_becoming_available_takes_what_waits_in_order_up_to_the_capacity(
    one: Parts, other: Parts, tenant: str
) -> None:
    waiting = [await part.wait(tenant, customer) for customer, part in enumerate((one, other) * 3, 1)]
    agent = await other.status(tenant, AGENT, AVAILABLE, capacity=4)
    assert (agent.load, agent.capacity) == (4, 4)
    states = [(await one.session(session)).state for session in waiting]
    assert states == [SessionState.ASSIGNED] * 4 + [SessionState.WAITING] * 2
    assert (await one.session(waiting[5])).queue_position == 2


async def test_an_end_gives_the_place_to_the_next(one: Parts, other: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE, capacity=1)
    first, second = await one.wait(tenant, 1), await other.wait(tenant, 2)
    await one.lifecycle.accept(answers(tenant, AGENT), first.id)
    await other.lifecycle.end(shopper(tenant, 1), first.id)
    assert (await one.session(second)).agent_id == AGENT


async def test_only_the_agent_it_is_offered_to_can_accept(one: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    session = await one.wait(tenant, 1)
    with pytest.raises(WrongState):
        await one.lifecycle.accept(answers(tenant, COLLEAGUE), session.id)
    accepted = await one.lifecycle.accept(answers(tenant, AGENT), session.id)
    assert (await one.lifecycle.accept(answers(tenant, AGENT), session.id)) == accepted
    await one.lifecycle.end(answers(tenant, AGENT), session.id)
    with pytest.raises(Ended):
        await one.lifecycle.accept(answers(tenant, AGENT), session.id)
    with pytest.raises(NotFound):
        await one.lifecycle.accept(answers(f"{tenant}-b", AGENT), session.id)


async def test_going_away_gives_offers_back_and_keeps_conversations(one: Parts, other: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    talking, offered = await one.wait(tenant, 1), await one.wait(tenant, 2)
    await one.lifecycle.accept(answers(tenant, AGENT), talking.id)
    later = await other.status(tenant, AGENT, AWAY)
    assert (later.status, later.load) == (AWAY, 1)
    assert (await one.session(talking)).state is SessionState.ACTIVE
    assert (await one.session(offered)).state is SessionState.WAITING
    await other.status(tenant, COLLEAGUE, AVAILABLE)
    assert (await one.session(offered)).agent_id == COLLEAGUE


async def test_busy_keeps_offers_and_takes_no_new_ones(one: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    offered = await one.wait(tenant, 1)
    await one.status(tenant, AGENT, BUSY)
    assert (await one.session(offered)).state is SessionState.ASSIGNED
    assert (await one.wait(tenant, 2)).state is SessionState.WAITING


async def test_a_lapsed_offer_waits_before_later_ones_and_its_agent_is_away(
    migrated: Platform, one: Parts, tenant: str
) -> None:
    async with parts(migrated, "session-3", offer_s=0.05) as hasty:
        await hasty.status(tenant, AGENT, AVAILABLE, capacity=1)
        lapsing, later = await hasty.wait(tenant, 1), await hasty.wait(tenant, 2)
        assert (lapsing.state, later.state) == (SessionState.ASSIGNED, SessionState.WAITING)

        async def requeued() -> bool:
            # Both instances look for lapsed offers at the same time.
            await asyncio.gather(hasty.reconciliation.lapse_offers(), one.reconciliation.lapse_offers())
            return (await one.session(lapsing)).state is SessionState.WAITING

        await eventually(requeued, "the offer lapses")
        assert [(await one.session(session)).queue_position for session in (lapsing, later)] == [1, 2]
        agent = await one.store.agent(tenant, AGENT)
        assert agent is not None
        assert (agent.status, agent.load) == (AWAY, 0)
        # The agent's page says why, and leads back.
        assert (agent.away_reason, agent.earlier_status) == (AwayReason.OFFER_LAPSED, AVAILABLE)
        await one.status(tenant, COLLEAGUE, AVAILABLE, capacity=1)
        assert (await one.session(lapsing)).agent_id == COLLEAGUE
        (requeue,) = [event for event in await events_of(migrated, lapsing) if event.HasField("requeued")]
        assert requeue.requeued.agent_id == AGENT
        assert requeue.requeued.reason == REQUEUE_REASON_NOT_ACCEPTED


async def test_every_change_is_announced_once_and_in_order(migrated: Platform, one: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    session = await one.wait(tenant, 1)
    await one.lifecycle.accept(answers(tenant, AGENT), session.id)
    await one.lifecycle.end(shopper(tenant, 1), session.id)
    await one.lifecycle.end(shopper(tenant, 1), session.id)
    events = await events_of(migrated, session)
    assert [event.WhichOneof("change") for event in events] == [
        "opened", "handoff_requested", "assigned", "accepted", "ended",
    ]  # fmt: skip
    assert [event.session.version for event in events] == [1, 2, 3, 4, 5]
    rows = await migrated.postgres.execute(
        f"SELECT subject, message_id FROM cs_session_outbox WHERE subject LIKE 'log.{tenant}.{session.id}' ORDER BY id"
    )
    assert [message_id for _, message_id in rows] == [str(event.event_id) for event in events[1:]]
    notices = await migrated.postgres.execute(
        f"SELECT subject, count(*) FROM cs_session_outbox WHERE subject LIKE 'notice.{tenant}.%' GROUP BY subject"
    )
    assert dict(notices) == {f"notice.{tenant}.1": 5, f"notice.{tenant}.{AGENT}": 3}


async def test_an_idle_session_ends_and_one_with_a_recent_word_does_not(migrated: Platform, tenant: str) -> None:
    async with parts(migrated, "session-5", idle_s=3600) as part:
        silent, talking = await part.open(tenant, 1), await part.wait(tenant, 2)
        await migrated.postgres.execute(
            f"UPDATE cs_session SET active_at = now() - interval '2 hours' WHERE tenant_id = '{tenant}'"
        )
        relay = asyncio.create_task(part.outbox.relay(part.member.bus))

        async def logged() -> bool:
            return await part.member.bus.last(f"log.{tenant}.{talking.id}") is not None

        await eventually(logged, "the handoff is in the log")
        relay.cancel()
        await part.reconciliation.end_idle()
        ended = await part.session(silent)
        assert (ended.state, ended.end_reason) == (SessionState.ENDED, EndReason.IDLE)
        assert (await part.session(talking)).state is SessionState.WAITING
        assert await part.store.idle(timedelta(hours=1), limit=10) == []


async def test_waiting_customers_hear_their_new_place(one: Parts, migrated: Platform, tenant: str) -> None:
    waiting = [await one.wait(tenant, customer) for customer in (1, 2, 3)]
    await one.positions.tell(tenant)
    await one.lifecycle.end(shopper(tenant, 1), waiting[0].id)
    await one.positions.tell(tenant)
    await one.positions.tell(tenant)
    heard = {}
    async with looking_on(migrated) as onlooker:
        for customer in (1, 2, 3):
            stored = await onlooker.read(f"notice.{tenant}.{customer}", after_seq=0, limit=10)
            heard[customer] = [SessionNotice.FromString(message.data).session.queue_position for message in stored]
    assert heard == {1: [1], 2: [2, 1], 3: [3, 2]}


async def test_many_at_once_on_two_instances_leave_nobody_waiting_beside_a_free_place(
    migrated: Platform, one: Parts, other: Parts, tenant: str
) -> None:
    """120 customers, 6 agents with 3 places; everything at once and in any order, with a wipe in the middle."""
    chance = random.Random(20)
    agents = {AGENT + number: 3 for number in range(6)}
    customers = range(1, 121)

    def either() -> Parts:
        return chance.choice((one, other))

    async def crowded() -> list[tuple[int, int]]:
        rows = await migrated.postgres.execute(
            f"SELECT agent_id, count(*) FROM cs_session WHERE tenant_id = '{tenant}' AND state IN (3, 4)"
            " GROUP BY agent_id HAVING count(*) > 3"
        )
        return [(agent_id, load) for agent_id, load in rows]

    async def customer(number: int) -> None:
        session = await either().open(tenant, number)
        await either().hand_off(session)

        async def served() -> bool:
            # 120 who look without a pause would leave no connection to the others.
            await asyncio.sleep(0.2)
            return (await one.session(session)).state is SessionState.ACTIVE

        await eventually(served, f"customer {number} is served", within=60)
        await either().lifecycle.end(shopper(tenant, number), session.id)

    async def agent(number: int, done: asyncio.Event) -> None:
        await either().status(tenant, number, AVAILABLE, capacity=3)
        while not done.is_set():
            for session in await one.store.open_of(tenant, number, limit=100):
                if session.state is SessionState.ASSIGNED:
                    # Refused when it was given back by the going away below.
                    with suppress(WrongState, Ended):
                        await either().lifecycle.accept(answers(tenant, number), session.id)
            assert await crowded() == []
            if chance.random() < 0.05:
                await either().status(tenant, number, AWAY)
                await either().status(tenant, number, AVAILABLE)
            await asyncio.sleep(0)

    done = asyncio.Event()
    working = [asyncio.create_task(agent(number, done)) for number in agents]
    coming = [asyncio.create_task(customer(number)) for number in customers]
    await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
    await migrated.valkey.wipe()
    await asyncio.gather(*coming)
    done.set()
    await asyncio.gather(*working)

    assert await one.store.count_waiting(tenant) == 0
    assert {found.load for found in await one.store.agents(tenant, after=("", 0), limit=50)} == {0}
    # The queue agrees: every place can be taken again.
    again = await asyncio.gather(*(either().wait(tenant, number) for number in range(1001, 1022)))
    states = [(await one.session(session)).state for session in again]
    assert states.count(SessionState.ASSIGNED) == 18
    assert states.count(SessionState.WAITING) == 3


async def test_those_who_wait_are_served_in_the_order_in_which_they_asked(
    one: Parts, other: Parts, tenant: str
) -> None:
    asked = await asyncio.gather(*(part.wait(tenant, customer) for customer, part in enumerate((one, other) * 15, 1)))
    expected = [session.id for session in sorted(asked, key=lambda session: session.handoff_at or datetime.now(UTC))]
    await one.status(tenant, AGENT, AVAILABLE, capacity=1)
    served = []
    while sessions := await one.store.open_of(tenant, AGENT, limit=10):
        (session,) = sessions
        served.append(session.id)
        part = (one, other)[len(served) % 2]
        await part.lifecycle.accept(answers(tenant, AGENT), session.id)
        await part.lifecycle.end(answers(tenant, AGENT), session.id)
    assert served == expected
