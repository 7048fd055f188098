"""The rules of a conversation's life, without anything around them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import pytest
from octopus.errors.v1.errors_pb2 import Reason
from octopus.session.v1 import session_pb2 as pb

from services.session import domain, wire
from services.session.domain import (
    TRANSITIONS,
    Agent,
    AgentStatus,
    Ended,
    EndReason,
    HandoffReason,
    NotFound,
    NotTaking,
    Session,
    SessionError,
    SessionState,
    Taken,
    Viewer,
    WrongState,
    kept_of,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
CUSTOMER, AGENT, OTHER = 7, 100, 101


def bot_session(**values: object) -> Session:
    session = Session(
        id=1,
        tenant_id="qingshan",
        customer_id=CUSTOMER,
        customer_name="林小青",
        channel="h5",
        locale="zh-CN",
        opened_at=NOW,
    )
    return replace(session, **values)  # type: ignore[arg-type]  # fields of the test's choice


def agent(**values: object) -> Agent:
    available = Agent(tenant_id="qingshan", user_id=AGENT, display_name="小陈", status=AgentStatus.AVAILABLE)
    return replace(available, **values)  # type: ignore[arg-type]  # fields of the test's choice


def waiting() -> Session:
    return bot_session().ask_person(HandoffReason.BUTTON, NOW)


def assigned() -> Session:
    return waiting().offer(agent(), LATER)


def active() -> Session:
    return assigned().accept(AGENT, NOW)


def warning() -> Session:
    return active().warn(LATER)


def ended() -> Session:
    return active().end(EndReason.AGENT, NOW)


def test_a_session_goes_from_bot_to_ended_and_each_step_is_a_version() -> None:
    steps = [bot_session(), waiting(), assigned(), active(), ended()]
    assert [step.state for step in steps] == list(SessionState)[:5]
    assert [step.version for step in steps] == [1, 2, 3, 4, 5]


def test_an_offer_names_agent_and_time_and_acceptance_takes_the_time_away() -> None:
    assert (assigned().agent_id, assigned().agent_name, assigned().offered_until) == (AGENT, "小陈", LATER)
    assert (active().agent_id, active().offered_until, active().accepted_at) == (AGENT, None, NOW)


def test_a_requeued_session_waits_where_it_stood() -> None:
    requeued = assigned().requeue()
    assert requeued.state is SessionState.WAITING
    assert requeued.handoff_at == waiting().handoff_at
    assert (requeued.agent_id, requeued.agent_name, requeued.offered_until) == (0, "", None)


def test_a_session_taken_from_its_agent_waits_where_it_stood_and_remembers_who_talked() -> None:
    requeued = active().requeue()
    assert (requeued.state, requeued.handoff_at, requeued.accepted_at) == (SessionState.WAITING, NOW, NOW)
    assert (requeued.agent_id, requeued.former_agents) == (0, (AGENT,))
    # An offer that was not accepted leaves no trace, a second conversation with the same agent no second one.
    assert assigned().requeue().former_agents == ()
    again = requeued.offer(agent(), LATER).accept(AGENT, LATER).requeue()
    assert again.former_agents == (AGENT,)


@pytest.mark.parametrize("state", SessionState)
def test_the_table_of_transitions_is_what_can_happen(state: SessionState) -> None:
    session = {
        SessionState.BOT: bot_session,
        SessionState.WAITING: waiting,
        SessionState.ASSIGNED: assigned,
        SessionState.ACTIVE: active,
        SessionState.WARNING: warning,
        SessionState.ENDED: ended,
    }[state]()
    steps: list[Callable[[], Session]] = [
        lambda: session.ask_person(HandoffReason.BUTTON, NOW),
        lambda: session.offer(agent(), LATER),
        session.requeue,
        lambda: session.pick(agent(user_id=OTHER), NOW),
        lambda: session.accept(AGENT, NOW),
        lambda: session.warn(LATER),
        session.resume,
        lambda: session.end(EndReason.CUSTOMER, NOW),
    ]
    reached = set()
    for step in steps:
        with suppress(SessionError):
            reached.add(step().state)
    assert reached - {state} == TRANSITIONS[state]


@pytest.mark.parametrize("session", [waiting(), assigned(), active(), warning()])
def test_asking_for_a_person_again_changes_nothing(session: Session) -> None:
    assert session.ask_person(HandoffReason.WORDS, LATER) is session


def test_accepting_and_ending_again_change_nothing() -> None:
    assert (session := active()).accept(AGENT, LATER) is session
    assert (over := ended()).end(EndReason.CUSTOMER, LATER) is over


@pytest.mark.parametrize("session", [bot_session(), waiting(), assigned(), active(), warning()])
def test_a_session_can_end_from_any_state_and_keeps_its_agent(session: Session) -> None:
    over = session.end(EndReason.CUSTOMER, LATER)
    assert (over.state, over.ended_at, over.agent_id) == (SessionState.ENDED, LATER, session.agent_id)
    assert (over.offered_until, over.closes_at) == (None, None)


@pytest.mark.parametrize(
    ("forbidden", "refusal"),
    [
        (lambda: ended().ask_person(HandoffReason.BUTTON, NOW), Ended),
        (lambda: ended().accept(AGENT, NOW), Ended),
        (lambda: ended().offer(agent(), LATER), WrongState),
        (lambda: bot_session().offer(agent(), LATER), WrongState),
        (lambda: assigned().offer(agent(user_id=OTHER), LATER), WrongState),
        (lambda: waiting().accept(AGENT, NOW), WrongState),
        (lambda: assigned().accept(OTHER, NOW), WrongState),
        (lambda: active().accept(OTHER, NOW), WrongState),
        (lambda: warning().accept(OTHER, NOW), WrongState),
        (lambda: bot_session().warn(LATER), WrongState),
        (lambda: waiting().warn(LATER), WrongState),
        (lambda: assigned().warn(LATER), WrongState),
        (lambda: ended().warn(LATER), WrongState),
        (lambda: bot_session().requeue(), WrongState),
        (lambda: ended().requeue(), WrongState),
        (lambda: waiting().requeue(), WrongState),
        (lambda: waiting().offer(agent(status=AgentStatus.BUSY), LATER), NotTaking),
        (lambda: waiting().offer(agent(status=AgentStatus.AWAY), LATER), NotTaking),
        (lambda: waiting().offer(agent(load=5), LATER), NotTaking),
    ],
)
def test_what_the_rules_do_not_allow_is_refused(forbidden: Callable[[], Session], refusal: type[SessionError]) -> None:
    with pytest.raises(refusal):
        forbidden()


def test_a_picked_session_is_the_agents_at_once() -> None:
    picked = waiting().pick(agent(), NOW).accept(AGENT, NOW)
    assert (picked.state, picked.agent_id, picked.agent_name) == (SessionState.ACTIVE, AGENT, "小陈")
    assert picked.pick(agent(load=1), LATER) is picked
    # One that was offered to the same agent in the meantime is theirs, too.
    assert assigned().pick(agent(load=1), NOW) == assigned()


def test_a_session_that_a_colleague_has_says_who() -> None:
    for held in (assigned(), active()):
        with pytest.raises(Taken, match="colleague was faster") as refused:
            held.pick(agent(user_id=OTHER), NOW)
        assert refused.value.metadata == {"agent_id": str(AGENT)}


@pytest.mark.parametrize("status", AgentStatus)
@pytest.mark.parametrize("load", range(7))
def test_who_is_on_duty_with_a_free_place_may_pick(status: AgentStatus, load: int) -> None:
    one = agent(status=status, load=load, capacity=5)
    if status is not AgentStatus.AWAY and load < 5:
        assert waiting().pick(one, NOW).agent_id == AGENT
    else:
        with pytest.raises(NotTaking, match="then pick again"):
            waiting().pick(one, NOW)


def test_an_offer_lapses_when_its_time_is_over_and_not_before() -> None:
    assert not assigned().has_lapsed(LATER - timedelta(microseconds=1))
    assert assigned().has_lapsed(LATER)
    assert not active().has_lapsed(LATER)


def test_an_agent_changes_version_with_status_and_not_with_load() -> None:
    assert agent().change(status=AgentStatus.AVAILABLE) == agent()
    assert agent().change(status=AgentStatus.AWAY).version == 1
    assert agent().assigned(NOW).version == 0
    assert agent().assigned(NOW).load == 1


SHOPPER = Viewer(tenant_id="qingshan", user_id=CUSTOMER, shopper=True)
ANSWERS = Viewer(tenant_id="qingshan", user_id=AGENT, agent=True)
COLLEAGUE = Viewer(tenant_id="qingshan", user_id=OTHER, agent=True)
SUPERVISOR = Viewer(tenant_id="qingshan", user_id=102, supervisor=True)
SERVICE = Viewer(tenant_id="qingshan", user_id=0, service=True)


@pytest.mark.parametrize(
    ("viewer", "seen"),
    [
        (SHOPPER, {"bot", "waiting", "assigned", "active", "ended", "once theirs"}),
        (ANSWERS, {"waiting", "assigned", "active", "ended", "once theirs"}),
        (COLLEAGUE, {"waiting", "once theirs"}),
        (replace(COLLEAGUE, user_id=103), {"waiting"}),
        (SUPERVISOR, {"bot", "waiting", "assigned", "active", "ended", "once theirs"}),
        (SERVICE, {"bot", "waiting", "assigned", "active", "ended", "once theirs"}),
        (replace(SHOPPER, user_id=8), set()),
        # A shopper whose id is 0 or whose role is missing sees nothing, not everything.
        (replace(SHOPPER, shopper=False), set()),
        *((replace(viewer, tenant_id="xinghe"), set()) for viewer in (SHOPPER, ANSWERS, SUPERVISOR, SERVICE)),
    ],
)
def test_everyone_sees_what_concerns_them(viewer: Viewer, seen: set[str]) -> None:
    sessions = {
        "bot": bot_session(),
        "waiting": waiting(),
        "assigned": assigned(),
        "active": active(),
        "ended": ended(),
        "once theirs": replace(ended(), former_agents=(OTHER,)),
    }
    assert {name for name, session in sessions.items() if viewer.sees(session)} == seen


def test_a_hidden_session_and_a_missing_one_are_refused_alike() -> None:
    with pytest.raises(NotFound) as hidden:
        COLLEAGUE.must_see(active())
    with pytest.raises(NotFound) as missing:
        COLLEAGUE.must_see(None)
    assert str(hidden.value) == str(missing.value)


def test_the_reason_of_an_end_is_who_ended_it() -> None:
    assert SHOPPER.end_reason(active()) is EndReason.CUSTOMER
    assert ANSWERS.end_reason(active()) is EndReason.AGENT
    assert SUPERVISOR.end_reason(waiting()) is EndReason.AGENT


def test_an_agent_cannot_end_a_session_that_only_waits() -> None:
    with pytest.raises(WrongState):
        COLLEAGUE.end_reason(waiting())


def test_of_two_open_sessions_the_one_that_came_further_is_kept_then_the_younger() -> None:
    assert kept_of(bot_session(), replace(active(), id=2)).id == 2
    assert kept_of(replace(active(), id=2), bot_session()).id == 2
    # A reminder brings a session no further.
    assert kept_of(warning(), replace(active(), id=2)).id == 2
    younger = bot_session(id=3, opened_at=LATER)
    assert kept_of(bot_session(), younger) is younger
    assert kept_of(younger, bot_session()) is younger


@pytest.mark.parametrize(
    ("ours", "prefix", "theirs"),
    [
        (SessionState, "SESSION_STATE_", pb.SessionState),
        (EndReason, "END_REASON_", pb.EndReason),
        (HandoffReason, "HANDOFF_REASON_", pb.HandoffReason),
        (AgentStatus, "AGENT_STATUS_", pb.AgentStatus),
    ],
)
def test_the_numbers_are_those_of_the_contract(ours: type[IntEnum], prefix: str, theirs: object) -> None:
    contract = {name.removeprefix(prefix): number for name, number in theirs.items()}  # type: ignore[attr-defined]
    unspecified = contract.pop("UNSPECIFIED")
    assert {member.name: member.value for member in ours if member.value != unspecified} == contract


def test_every_refusal_has_a_reason_of_the_contract() -> None:
    refusals = [kind for kind in vars(domain).values() if isinstance(kind, type) and issubclass(kind, SessionError)]
    refusals.remove(SessionError)
    assert len(refusals) == 9
    for refusal in refusals:
        assert f"REASON_{refusal.reason}" in Reason.keys()  # noqa: SIM118  # an enum wrapper, not a dict


def test_the_wire_says_what_the_session_is_and_nothing_of_names_is_in_its_repr() -> None:
    message = wire.session(replace(waiting(), queue_position=3))
    assert (message.id, message.state, message.queue_position) == (1, pb.SESSION_STATE_WAITING, 3)
    assert message.handoff_at.ToDatetime(tzinfo=UTC) == NOW
    assert not message.HasField("accepted_at")
    assert message.customer_name == "林小青"
    assert "林小青" not in repr(waiting())
