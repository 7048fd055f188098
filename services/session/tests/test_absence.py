"""Agents who vanish: offers go on, chats go back to the front of the queue, and nobody is taken for absent wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.session.v1 import session_pb2

from mesh.testing import Platform
from services.session.agents import absence
from services.session.agents.absence import AbsenceWatch
from services.session.domain import AbsenceRules, Agent, AgentStatus, AwayReason, Session, SessionState
from services.session.tests.parts import Parts, answers

pytestmark = pytest.mark.store

AGENT, COLLEAGUE = 900, 901
AVAILABLE, BUSY, AWAY = AgentStatus.AVAILABLE, AgentStatus.BUSY, AgentStatus.AWAY
AWAY_AFTER, GONE_AFTER = timedelta(seconds=25), timedelta(seconds=115)


class KnownPresences:
    """Who is offline, and for how long; people of other tests' shops are all online."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self.offline: dict[int, timedelta] = {}
        self.failing = False

    async def offline_for(self, tenant_id: str, user_ids: Sequence[int]) -> Mapping[int, timedelta | None]:
        if self.failing:
            raise ConnectionError("nobody answers")
        known = self.offline if tenant_id == self._tenant else {}
        return {user_id: known.get(user_id) for user_id in user_ids}


@pytest.fixture
def presences(tenant: str) -> KnownPresences:
    return KnownPresences(tenant)


@pytest.fixture
def watch(one: Parts, presences: KnownPresences) -> AbsenceWatch:
    return AbsenceWatch(store=one.store, duty=one.duty, presences=presences)


@pytest.fixture
def other_watch(other: Parts, presences: KnownPresences) -> AbsenceWatch:
    return AbsenceWatch(store=other.store, duty=other.duty, presences=presences)


async def long_ago(platform: Platform, tenant: str) -> None:
    """The shop's agents said their status an hour ago."""
    await platform.postgres.execute(
        f"UPDATE cs_agent SET acted_at = acted_at - interval '1 hour' WHERE tenant_id = '{tenant}'"  # noqa: S608
    )


async def agent(part: Parts, tenant: str, agent_id: int = AGENT) -> Agent:
    found = await part.store.agent(tenant, agent_id)
    assert found is not None
    return found


async def last_change(platform: Platform, session: Session) -> LogEntry:
    """What the customer's conversation was last told; no relay empties the outbox here."""
    rows = await platform.postgres.execute(
        f"SELECT payload FROM cs_session_outbox WHERE subject = 'log.{session.tenant_id}.{session.id}' ORDER BY id"  # noqa: S608
    )
    return LogEntry.FromString(rows[-1][0])


async def test_an_agent_without_a_connection_is_away_and_her_offers_go_on(
    migrated: Platform, one: Parts, presences: KnownPresences, watch: AbsenceWatch, tenant: str
) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    talks = await one.wait(tenant, 1)
    await one.lifecycle.accept(answers(tenant, AGENT), talks.id)
    offered = await one.wait(tenant, 2)
    await one.status(tenant, COLLEAGUE, AVAILABLE)
    await long_ago(migrated, tenant)

    presences.offline[AGENT] = AWAY_AFTER - timedelta(milliseconds=1)
    await watch.look()
    assert (await agent(one, tenant)).status is AVAILABLE
    assert (await one.session(offered)).agent_id == AGENT

    presences.offline[AGENT] = AWAY_AFTER
    await watch.look()
    away = await agent(one, tenant)
    assert (away.status, away.away_reason, away.earlier_status) == (AWAY, AwayReason.PAGE_CLOSED, AVAILABLE)
    assert (await one.session(offered)).agent_id == COLLEAGUE
    # She may come back: her chat waits for her.
    kept = await one.session(talks)
    assert (kept.state, kept.agent_id) == (SessionState.ACTIVE, AGENT)


async def test_chats_of_an_agent_who_stays_away_return_to_the_front_and_their_customers_are_told(
    migrated: Platform, one: Parts, presences: KnownPresences, watch: AbsenceWatch, tenant: str
) -> None:
    await one.status(tenant, AGENT, AVAILABLE, capacity=1)
    talks = await one.wait(tenant, 1)
    await one.lifecycle.accept(answers(tenant, AGENT), talks.id)
    later = [await one.wait(tenant, customer) for customer in (2, 3)]
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = GONE_AFTER - timedelta(milliseconds=1)
    await watch.look()
    assert (await one.session(talks)).state is SessionState.ACTIVE
    presences.offline[AGENT] = GONE_AFTER
    await watch.look()
    back = await one.session(talks)
    assert (back.state, back.queue_position, back.former_agents) == (SessionState.WAITING, 1, (AGENT,))
    assert [(await one.session(session)).queue_position for session in later] == [2, 3]
    told = (await last_change(migrated, talks)).message.content
    assert told.change.requeue_reason == session_pb2.REQUEUE_REASON_AGENT_DISCONNECTED
    assert told.fallback_text == "客服的连接断开了，同事会马上接手"
    # A colleague who comes takes it before all who asked later.
    await one.status(tenant, COLLEAGUE, AVAILABLE, capacity=1)
    assert (await one.session(talks)).agent_id == COLLEAGUE


async def test_a_chat_of_one_who_chose_to_be_away_and_closed_the_page_is_not_left_lying(
    migrated: Platform, one: Parts, presences: KnownPresences, watch: AbsenceWatch, tenant: str
) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    talks = await one.wait(tenant, 1)
    await one.lifecycle.accept(answers(tenant, AGENT), talks.id)
    await one.status(tenant, AGENT, AWAY)
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = GONE_AFTER
    await watch.look()
    assert (await one.session(talks)).state is SessionState.WAITING
    away = await agent(one, tenant)
    assert (away.away_reason, away.earlier_status) == (AwayReason.CHOSEN, None)


async def test_who_comes_back_in_time_keeps_the_chats_and_returns_with_one_call(
    migrated: Platform, one: Parts, presences: KnownPresences, watch: AbsenceWatch, tenant: str
) -> None:
    await one.status(tenant, AGENT, BUSY)
    await one.status(tenant, AGENT, AVAILABLE)
    talks = await one.wait(tenant, 1)
    await one.lifecycle.accept(answers(tenant, AGENT), talks.id)
    await one.status(tenant, AGENT, BUSY)
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = AWAY_AFTER
    await watch.look()
    del presences.offline[AGENT]
    await watch.look()
    away = await agent(one, tenant)
    assert (away.status, away.earlier_status) == (AWAY, BUSY)
    assert (await one.session(talks)).state is SessionState.ACTIVE
    back = await one.status(tenant, AGENT, BUSY)
    assert (back.status, back.away_reason, back.earlier_status) == (BUSY, AwayReason.NONE, None)


async def test_nobody_is_away_while_the_presence_service_does_not_answer(
    migrated: Platform, one: Parts, presences: KnownPresences, watch: AbsenceWatch, tenant: str
) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = GONE_AFTER
    presences.failing = True
    with pytest.raises(ConnectionError):
        await watch.look()
    assert (await agent(one, tenant)).status is AVAILABLE


async def test_what_was_known_before_a_freeze_is_not_acted_on(
    migrated: Platform,
    one: Parts,
    *,
    presences: KnownPresences,
    watch: AbsenceWatch,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = GONE_AFTER
    # Any answer is too old then.
    monkeypatch.setattr(absence, "_KNOWN_S", 0.0)
    await watch.look()
    assert (await agent(one, tenant)).status is AVAILABLE


async def test_who_has_said_a_status_meanwhile_stays(migrated: Platform, one: Parts, tenant: str) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    seen = (await agent(one, tenant)).acted_at
    assert seen is not None
    await long_ago(migrated, tenant)
    await one.duty.page_closed(tenant, AGENT, acted_at=seen, gone=True)
    assert (await agent(one, tenant)).status is AVAILABLE


async def test_two_instances_that_look_at_once_return_a_chat_once(
    migrated: Platform,
    one: Parts,
    *,
    presences: KnownPresences,
    watch: AbsenceWatch,
    other_watch: AbsenceWatch,
    tenant: str,
) -> None:
    await one.status(tenant, AGENT, AVAILABLE)
    talks = await one.wait(tenant, 1)
    await one.lifecycle.accept(answers(tenant, AGENT), talks.id)
    before = await one.session(talks)
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = GONE_AFTER
    await asyncio.gather(*(each.look() for each in (watch, other_watch) * 2))
    after = await one.session(talks)
    assert (after.state, after.version) == (SessionState.WAITING, before.version + 1)


async def test_a_shop_has_its_own_patience(
    migrated: Platform, one: Parts, presences: KnownPresences, watch: AbsenceWatch, tenant: str
) -> None:
    assert await one.store.absence_rules(tenant) == AbsenceRules()
    rules = AbsenceRules(timedelta(seconds=40), timedelta(seconds=60))
    await one.store.set_absence_rules(tenant, rules)
    assert await one.store.absence_rules(tenant) == rules
    await one.status(tenant, AGENT, AVAILABLE)
    await long_ago(migrated, tenant)
    presences.offline[AGENT] = timedelta(seconds=39)
    await watch.look()
    assert (await agent(one, tenant)).status is AVAILABLE
    presences.offline[AGENT] = timedelta(seconds=40)
    await watch.look()
    assert (await agent(one, tenant)).status is AWAY
