"""Customers who are silent, on real stores: reminded once, left once, and never when their answer is stored."""

# ruff: noqa: S608  # the tests' own sessions

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from octopus.chat.v1 import message_pb2
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.session.v1 import session_pb2
from octopus.session.v1.session_events_pb2 import SessionEvent

from mesh.bus import Delivery
from mesh.rpc.timestamps import to_wire
from mesh.testing import Platform
from mesh.testing.bus import delivery
from services.session.domain import AgentStatus, EndReason, HandoffReason, Session, SessionState, Settings
from services.session.tests.parts import Parts, answers, parts, shopper

pytestmark = pytest.mark.store

AGENT, COLLEAGUE = 900, 901
CUSTOMER, PERSON = message_pb2.SENDER_KIND_CUSTOMER, message_pb2.SENDER_KIND_AGENT
# Due as soon as it is looked for.
AT_ONCE = timedelta(milliseconds=1)
HASTY = Settings(remind_after=AT_ONCE, close_after=AT_ONCE)


async def talk(part: Parts, tenant: str, settings: Settings = HASTY) -> Session:
    """A chat that an agent has accepted."""
    await part.settings.replace(tenant, settings)
    await part.status(tenant, AGENT, AgentStatus.AVAILABLE)
    waiting = await part.wait(tenant, 1)
    return await part.lifecycle.accept(answers(tenant, AGENT), waiting.id)


async def said(
    part: Parts, session: Session, kind: message_pb2.SenderKind.ValueType, text: str = "在吗"
) -> Delivery[LogEntry]:
    """Store a message in the log, as chat does, and return what the consumer gets of it."""
    message_id = part.ids.next()
    entry = LogEntry(
        message=message_pb2.Message(
            id=message_id,
            session_id=session.id,
            sender=message_pb2.Sender(kind=kind, user_id=1 if kind == CUSTOMER else AGENT),
            sent_at=to_wire(datetime.now(UTC)),
            content=message_pb2.Content(text=message_pb2.Text(text=text)),
        ),
        tenant_id=session.tenant_id,
        customer_id=session.customer_id,
        session_state=session_pb2.SESSION_STATE_ACTIVE,
    )
    stored = await part.member.bus.publish(f"log.{session.tenant_id}.{session.id}", entry, message_id=str(message_id))
    return delivery(entry, seq=stored.seq)


async def changes_of(platform: Platform, session: Session) -> list[str | None]:
    """What happened to it, from the outbox, which no relay empties here."""
    rows = await platform.postgres.execute(
        "SELECT payload FROM cs_session_outbox"
        f" WHERE subject = 'event.session.{session.tenant_id}.{session.id}' ORDER BY id"
    )
    return [SessionEvent.FromString(payload).WhichOneof("change") for (payload,) in rows]


async def test_a_silent_customer_is_reminded_once_and_left_once_by_several_instances(
    migrated: Platform, one: Parts, other: Parts, tenant: str
) -> None:
    session = await talk(one, tenant, Settings(remind_after=AT_ONCE, close_after=timedelta(hours=1)))
    await one.silence.hear([await said(one, session, PERSON)])
    await asyncio.gather(*(part.silence.remind() for part in (one, other) * 3))
    warned = await one.session(session)
    assert warned.state is SessionState.WARNING
    assert warned.closes_at is not None
    # An hour later.
    await migrated.postgres.execute(f"UPDATE cs_session SET closes_at = now() WHERE id = {session.id}")
    await asyncio.gather(*(part.silence.leave() for part in (one, other) * 3))
    over = await one.session(session)
    assert (over.state, over.end_reason, over.closes_at) == (SessionState.ENDED, EndReason.IDLE, None)
    assert (await changes_of(migrated, session))[-3:] == ["accepted", "warned", "ended"]
    # The agent's place is free again.
    agent = await one.store.agent(tenant, AGENT)
    assert agent is not None
    assert agent.load == 0


async def test_what_an_instance_knew_of_a_silent_customer_another_acts_on_after_its_death(
    migrated: Platform, one: Parts, tenant: str
) -> None:
    async with parts(migrated, "session-4") as dying:
        session = await talk(dying, tenant)
        await dying.silence.hear([await said(dying, session, PERSON)])
    await one.silence.remind()
    assert (await one.session(session)).state is SessionState.WARNING


async def test_an_answer_that_is_stored_and_not_noted_yet_prevents_the_reminder(one: Parts, tenant: str) -> None:
    session = await talk(one, tenant)
    await one.silence.hear([await said(one, session, PERSON)])
    await said(one, session, CUSTOMER)
    await one.silence.remind()
    assert (await one.session(session)).state is SessionState.ACTIVE


@pytest.mark.parametrize("kind", [CUSTOMER, PERSON])
async def test_a_message_that_is_stored_and_not_noted_yet_prevents_the_end(
    one: Parts, tenant: str, kind: message_pb2.SenderKind.ValueType
) -> None:
    session = await talk(one, tenant)
    await one.silence.hear([await said(one, session, PERSON)])
    await one.silence.remind()
    await said(one, session, kind)
    await one.silence.leave()
    now = await one.session(session)
    assert (now.state, now.closes_at) == (SessionState.ACTIVE, None)


async def test_a_message_goes_on_and_one_from_before_the_reminder_does_not(one: Parts, tenant: str) -> None:
    session = await talk(one, tenant)
    question, hello = await said(one, session, CUSTOMER), await said(one, session, PERSON)
    # Two instances share the consumer, so that the later message may come first, and either again.
    await one.silence.hear([hello])
    await one.silence.hear([question, hello])
    await one.silence.remind()
    await one.silence.hear([question, hello])
    assert (await one.session(session)).state is SessionState.WARNING
    await one.silence.hear([await said(one, session, CUSTOMER)])
    assert (await one.session(session)).state is SessionState.ACTIVE


async def test_an_instance_that_dies_after_noting_a_message_leaves_the_rest_to_its_redelivery(
    one: Parts, other: Parts, tenant: str
) -> None:
    session = await talk(one, tenant)
    await one.silence.hear([await said(one, session, PERSON)])
    await one.silence.remind()
    answer = await said(one, session, CUSTOMER)
    # It noted the message and died.
    noted = replace(await one.turns.of(tenant, session.id), customer_seq=answer.seq)
    assert await one.turns.take_in(tenant, {session.id: noted}) == [session.id]
    await other.silence.hear([answer])
    assert (await one.session(session)).state is SessionState.ACTIVE


async def test_a_shop_that_wants_no_reminder_or_no_end_gets_none(one: Parts, tenant: str) -> None:
    session = await talk(one, tenant, Settings(remind_after=timedelta(), close_after=AT_ONCE))
    await one.silence.hear([await said(one, session, PERSON)])
    await one.silence.remind()
    assert (await one.session(session)).state is SessionState.ACTIVE
    await one.settings.replace(tenant, Settings(remind_after=AT_ONCE, close_after=timedelta()))
    await one.silence.remind()
    await one.silence.leave()
    now = await one.session(session)
    assert (now.state, now.closes_at) == (SessionState.WARNING, None)


async def test_a_reminded_session_goes_back_to_the_queue_when_its_agent_leaves_and_takes_a_place_until_then(
    one: Parts, tenant: str
) -> None:
    session = await talk(one, tenant)
    await one.silence.hear([await said(one, session, PERSON)])
    await one.silence.remind()
    agent = await one.store.agent(tenant, AGENT)
    assert agent is not None
    assert agent.load == 1
    assert [open_one.id for open_one in await one.store.open_of(tenant, AGENT, limit=5)] == [session.id]
    await one.duty.logged_out(tenant, AGENT, display_name="", token_generation=1)
    waiting = await one.session(session)
    assert (waiting.state, waiting.closes_at, waiting.former_agents) == (SessionState.WAITING, None, (AGENT,))
    await one.silence.leave()
    assert (await one.session(session)).state is SessionState.WAITING


async def test_what_is_asked_of_a_customer_after_the_end_is_the_shops_choice(one: Parts, tenant: str) -> None:
    session = await talk(one, tenant, Settings(ask_satisfaction=False))
    assert (await one.lifecycle.end(shopper(tenant, 1), session.id)).rate_until is None
    session = await talk(one, tenant)
    over = await one.lifecycle.end(shopper(tenant, 1), session.id)
    assert over.ended_at is not None
    assert over.rate_until == over.ended_at + timedelta(days=7)


async def test_a_customer_who_returns_soon_goes_on_with_the_same_agent_when_that_one_is_free(
    one: Parts, other: Parts, tenant: str
) -> None:
    first = await talk(one, tenant, Settings())
    await one.status(tenant, COLLEAGUE, AgentStatus.AVAILABLE)
    await one.lifecycle.end(shopper(tenant, 1), first.id)
    second = await other.open(tenant, 1)
    assert (second.state, second.agent_id) == (SessionState.ASSIGNED, AGENT)
    assert (second.previous_session_id, second.handoff_reason) == (first.id, HandoffReason.RETURN)
    await other.lifecycle.accept(answers(tenant, AGENT), second.id)
    await other.lifecycle.end(shopper(tenant, 1), second.id)
    # With no place left, or away, the agent is not bothered; the session says what it continues.
    await one.status(tenant, AGENT, AgentStatus.BUSY)
    third = await one.open(tenant, 1)
    assert (third.state, third.agent_id, third.previous_session_id) == (SessionState.BOT, 0, second.id)


async def test_a_return_takes_a_place_that_the_live_queue_knows_of(one: Parts, other: Parts, tenant: str) -> None:
    first = await talk(one, tenant, Settings())
    await one.lifecycle.end(shopper(tenant, 1), first.id)
    await one.status(tenant, AGENT, AgentStatus.AVAILABLE, capacity=1)
    returned, waiting = await one.open(tenant, 1), await other.wait(tenant, 2)
    assert (returned.state, waiting.state) == (SessionState.ASSIGNED, SessionState.WAITING)
    # Its place goes on, as that of any other.
    await one.lifecycle.end(shopper(tenant, 1), returned.id)
    assert (await one.session(waiting)).agent_id == AGENT


async def test_a_customer_who_returns_late_or_without_having_met_an_agent_meets_the_bot(
    one: Parts, tenant: str
) -> None:
    first = await talk(one, tenant, Settings(return_within=AT_ONCE))
    await one.lifecycle.end(shopper(tenant, 1), first.id)
    late = await one.open(tenant, 1)
    assert (late.state, late.previous_session_id) == (SessionState.BOT, 0)
    await one.settings.replace(tenant, Settings())
    await one.lifecycle.end(shopper(tenant, 1), late.id)
    with_bot = await one.open(tenant, 1)
    assert (with_bot.state, with_bot.previous_session_id) == (SessionState.BOT, late.id)
