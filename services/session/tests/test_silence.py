"""Whose turn it is, the reminder and the end, by a clock that only the test moves."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.session.domain import (
    TRANSITIONS,
    Agent,
    AgentStatus,
    AlreadyRated,
    Ended,
    EndReason,
    HandoffReason,
    Satisfaction,
    Session,
    SessionError,
    SessionState,
    Settings,
    Speaker,
    Step,
    Summary,
    Turn,
    Word,
    WrongState,
    due,
    rate,
    summarize,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
AGENT, COLLEAGUE = 100, 101
# The same examples in every run, and no limits of time: the machine may be busy.
CALM = settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SETTINGS = Settings(remind_after=5 * MINUTE, close_after=3 * MINUTE)


def agent(user_id: int = AGENT) -> Agent:
    return Agent(tenant_id="qingshan", user_id=user_id, display_name="小陈", status=AgentStatus.AVAILABLE)


def opened() -> Session:
    return Session(
        id=1, tenant_id="qingshan", customer_id=7, customer_name="林小青", channel="web", locale="", opened_at=NOW
    )


def active(at: datetime = NOW, by: int = AGENT) -> Session:
    return opened().ask_person(HandoffReason.BUTTON, at).offer(agent(by), at + MINUTE).accept(by, at)


def by_agent(seq: int, at: datetime = NOW, *, sender_id: int = AGENT) -> Word:
    return Word(seq=seq, at=at, speaker=Speaker.AGENT, sender_id=sender_id)


def by_customer(seq: int, at: datetime = NOW, *, text: str = "") -> Word:
    return Word(seq=seq, at=at, speaker=Speaker.CUSTOMER, sender_id=7, text=text)


def turn(*words: Word) -> Turn:
    heard = Turn()
    for word in words:
        heard = heard.hear(word)
    return heard


def test_a_customer_who_owes_an_answer_is_reminded_when_the_time_is_over_and_not_before() -> None:
    heard = turn(by_customer(1), by_agent(2), by_agent(3, NOW + MINUTE))
    at = NOW + MINUTE + SETTINGS.remind_after
    assert due(active(), heard, SETTINGS, at - SECOND) is Step.NOTHING
    assert due(active(), heard, SETTINGS, at) is Step.WARN


@pytest.mark.parametrize(
    "words", [(), (by_customer(1),), (by_agent(1), by_customer(2))], ids=["nobody wrote", "unanswered", "answered"]
)
def test_a_chat_in_which_the_agent_owes_the_answer_never_warns(words: tuple[Word, ...]) -> None:
    assert due(active(), turn(*words), SETTINGS, NOW + timedelta(days=1)) is Step.NOTHING


def test_what_an_agent_wrote_who_had_the_session_before_is_not_waited_for() -> None:
    later = active(NOW + MINUTE, COLLEAGUE)
    assert due(later, turn(by_agent(1)), SETTINGS, NOW + timedelta(days=1)) is Step.NOTHING


@pytest.mark.parametrize("word", [by_customer(3), by_agent(3)])
def test_any_message_after_the_reminder_goes_on_even_when_the_time_to_close_has_come(word: Word) -> None:
    warned = replace(turn(by_agent(2)), warned_seq=2)
    session = active().warn(NOW + MINUTE)
    assert due(session, warned, SETTINGS, NOW) is Step.NOTHING
    assert due(session, warned, SETTINGS, NOW + MINUTE) is Step.CLOSE
    assert due(session, warned.hear(word), SETTINGS, NOW + MINUTE) is Step.RESUME


def test_a_time_of_zero_switches_reminder_or_end_off() -> None:
    never = replace(SETTINGS, remind_after=timedelta())
    assert due(active(), turn(by_agent(1)), never, NOW + timedelta(days=1)) is Step.NOTHING
    session = active().warn(replace(SETTINGS, close_after=timedelta()).closes_at(NOW))
    assert due(session, replace(turn(by_agent(1)), warned_seq=1), SETTINGS, NOW + timedelta(days=1)) is Step.NOTHING


words = st.builds(
    Word,
    seq=st.integers(1, 30),
    at=st.integers(0, 600).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    speaker=st.sampled_from(Speaker),
    sender_id=st.sampled_from([AGENT, COLLEAGUE]),
    text=st.sampled_from(["", "在吗", "多久发货?"]),
)
# Two messages do not stand at one position.
logs = st.lists(words, max_size=12, unique_by=lambda word: word.seq)


@CALM
@given(log=logs, data=st.data())
def test_messages_give_the_same_turn_in_any_order_and_any_number_of_times(log: list[Word], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(log), max_size=6)) if log else []
    assert turn(*data.draw(st.permutations([*log, *again]))) == turn(*log)


@CALM
@given(log=logs, data=st.data())
def test_a_summary_counts_every_message_once_in_any_order(log: list[Word], data: st.DataObject) -> None:
    times = {"handoff_at": NOW, "accepted_at": NOW + MINUTE, "ended_at": NOW + 9 * MINUTE}
    summary = summarize(data.draw(st.permutations(log)), **times)
    assert summary == summarize(log, **times)
    assert summary.customer_messages + summary.agent_messages + summary.bot_messages == len(log)
    assert len(set(summary.agent_ids)) == len(summary.agent_ids)
    assert (summary.waited, summary.handled) == (MINUTE, 8 * MINUTE)


def test_a_summary_says_what_was_asked_by_whom_it_was_answered_and_how_fast() -> None:
    log = [
        by_customer(1, text="多久发货?" * 100),
        Word(seq=2, at=NOW, speaker=Speaker.BOT, topic="发货时间"),
        Word(seq=3, at=NOW, speaker=Speaker.BOT, topic="退货"),
        by_agent(4, NOW + 2 * MINUTE),
        by_agent(5, NOW + 3 * MINUTE, sender_id=COLLEAGUE),
        by_agent(6, NOW + 4 * MINUTE),
    ]
    summary = summarize(log, handoff_at=NOW, accepted_at=NOW + MINUTE, ended_at=NOW + 5 * MINUTE)
    assert summary == Summary(
        opener=("多久发货?" * 100)[:200],
        topic="发货时间",
        customer_messages=1,
        agent_messages=3,
        bot_messages=2,
        waited=MINUTE,
        first_response=2 * MINUTE,
        handled=4 * MINUTE,
        agent_ids=(AGENT, COLLEAGUE),
    )
    assert summarize([], handoff_at=None, accepted_at=None, ended_at=NOW) == Summary()


def test_a_customer_says_once_how_they_were_served_while_it_is_open_or_soon_after() -> None:
    said = Satisfaction(score=4, comment="谢谢", rated_at=NOW)
    assert rate(active(), None, said) is said
    # The same again changes nothing, something else is refused.
    assert rate(active(), said, replace(said, rated_at=NOW + MINUTE)) is said
    with pytest.raises(AlreadyRated):
        rate(active(), said, replace(said, score=5))
    with pytest.raises(AlreadyRated):
        rate(active(), said, replace(said, comment=""))
    over, week = active().end(EndReason.CUSTOMER, NOW), timedelta(days=7)
    late = replace(said, rated_at=NOW + week - SECOND)
    assert rate(over, None, late) is late
    with pytest.raises(Ended):
        rate(over, None, replace(said, rated_at=NOW + week))
    with pytest.raises(WrongState):
        rate(opened(), None, said)
    assert "谢谢" not in repr(said)


def test_a_shop_asks_only_where_an_agent_served_and_only_when_it_wants_to() -> None:
    assert SETTINGS.rate_until(active(), NOW) == NOW + timedelta(days=7)
    assert SETTINGS.rate_until(opened(), NOW) is None
    assert replace(SETTINGS, ask_satisfaction=False).rate_until(active(), NOW) is None


class Life(RuleBasedStateMachine):
    """A session through whatever may happen, with a virtual clock, checked each second for what is due."""

    @initialize(remind=st.sampled_from([0, 2, 5]), close=st.sampled_from([0, 1, 3]), asks=st.booleans())
    def begin(self, remind: int, close: int, asks: bool) -> None:
        self.settings = Settings(remind_after=remind * SECOND, close_after=close * SECOND, ask_satisfaction=asks)
        self.now, self.seq = NOW, 0
        self.session, self.turn = opened(), Turn()
        self.warned_at: datetime | None = None
        # What the rules are compared with: the agent's words that the customer has not answered.
        self.unanswered_since: datetime | None = None

    def take(self, after: Session) -> None:
        if after is not self.session:
            assert after.version == self.session.version + 1
            if after.state is not self.session.state:
                assert after.state in TRANSITIONS[self.session.state]
        self.session = after

    @rule()
    def ask(self) -> None:
        with suppress(SessionError):
            self.take(self.session.ask_person(HandoffReason.BUTTON, self.now))

    @rule(by=st.sampled_from([AGENT, COLLEAGUE]))
    def offer_and_accept(self, by: int) -> None:
        with suppress(SessionError):
            self.take(self.session.offer(agent(by), self.now + MINUTE))
            self.take(self.session.accept(by, self.now))
            self.unanswered_since = None

    @rule()
    def requeue(self) -> None:
        with suppress(SessionError):
            self.take(self.session.requeue())
            self.unanswered_since = self.warned_at = None

    @rule(speaker=st.sampled_from([Speaker.AGENT, Speaker.CUSTOMER]))
    def write(self, speaker: Speaker) -> None:
        talking = self.session.state in (SessionState.ACTIVE, SessionState.WARNING)
        if self.session.state is SessionState.ENDED or (speaker is Speaker.AGENT and not talking):
            return
        self.seq += 1
        # An acceptance and the first message do not come at the same instant.
        self.turn = self.turn.hear(Word(seq=self.seq, at=self.now, speaker=speaker))
        self.unanswered_since = self.now if speaker is Speaker.AGENT else None
        if self.session.state is SessionState.WARNING:
            assert due(self.session, self.turn, self.settings, self.now) is Step.RESUME
            self.take(self.session.resume())
            self.warned_at = None

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            self.step()

    @rule()
    def step(self) -> None:
        """Do what is due, as any instance may at any time."""
        match due(self.session, self.turn, self.settings, self.now):
            case Step.WARN:
                assert self.unanswered_since is not None
                assert self.now - self.unanswered_since >= self.settings.remind_after > timedelta()
                self.turn = replace(self.turn, warned_seq=self.turn.last_seq)
                self.take(self.session.warn(self.settings.closes_at(self.now)))
                self.warned_at = self.now
            case Step.CLOSE:
                assert self.warned_at is not None
                assert self.now - self.warned_at >= self.settings.close_after > timedelta()
                self.take(self.session.end(EndReason.IDLE, self.now))
            case Step.RESUME:
                raise AssertionError("a message had not been dealt with")
            case Step.NOTHING:
                pass

    @rule()
    def end(self) -> None:
        self.take(self.session.end(EndReason.CUSTOMER, self.now))

    @invariant()
    def nothing_is_due_twice_and_nobody_waits_too_long(self) -> None:
        warning = self.session.state is SessionState.WARNING
        assert (self.session.closes_at is not None) == (warning and self.settings.close_after > timedelta())
        if self.session.closes_at is not None and self.now > self.session.closes_at:
            raise AssertionError("it was to be closed")
        if self.session.state is SessionState.ACTIVE and self.unanswered_since and self.settings.remind_after:
            assert self.now - self.unanswered_since <= self.settings.remind_after, "it was to be reminded"


TestLife = Life.TestCase
TestLife.settings = settings(CALM, max_examples=60, stateful_step_count=30)
