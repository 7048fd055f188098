"""The rules of a conversation."""

import pytest

from services.chat.domain import (
    Allowance,
    NotYourTurn,
    Participation,
    SessionOver,
    Speaker,
    Stage,
    Step,
    TooFast,
    UnknownSession,
    check_may_speak,
    is_too_old,
    next_step,
)

pytestmark = pytest.mark.unit

CUSTOMER, AGENT, STRANGER = 7, 8, 9


@pytest.mark.parametrize("stage", [Stage.BOT, Stage.WAITING, Stage.ASSIGNED, Stage.ACTIVE])
def test_a_customer_speaks_until_the_end(stage: Stage) -> None:
    check_may_speak(Participation(stage, CUSTOMER, 0), Speaker.CUSTOMER, CUSTOMER)


def test_nobody_speaks_after_the_end() -> None:
    over = Participation(Stage.ENDED, CUSTOMER, AGENT)
    for speaker, user_id in ((Speaker.CUSTOMER, CUSTOMER), (Speaker.AGENT, AGENT), (Speaker.BOT, 0)):
        with pytest.raises(SessionOver):
            check_may_speak(over, speaker, user_id)


def test_an_agent_speaks_only_after_accepting() -> None:
    with pytest.raises(NotYourTurn):
        check_may_speak(Participation(Stage.ASSIGNED, CUSTOMER, AGENT), Speaker.AGENT, AGENT)
    check_may_speak(Participation(Stage.ACTIVE, CUSTOMER, AGENT), Speaker.AGENT, AGENT)


@pytest.mark.parametrize("stage", [Stage.BOT, Stage.WAITING, Stage.ASSIGNED])
def test_the_bot_speaks_until_an_agent_has_accepted(stage: Stage) -> None:
    check_may_speak(Participation(stage, CUSTOMER, 0), Speaker.BOT, 0)


@pytest.mark.parametrize("stage", [Stage.WAITING, Stage.ASSIGNED, Stage.ACTIVE])
def test_the_bot_never_speaks_after_an_agent_has_accepted(stage: Stage) -> None:
    with pytest.raises(NotYourTurn):
        check_may_speak(Participation(stage, CUSTOMER, 0, accepted=True), Speaker.BOT, 0)


def test_the_bot_never_speaks_while_an_agent_talks() -> None:
    with pytest.raises(NotYourTurn):
        check_may_speak(Participation(Stage.ACTIVE, CUSTOMER, AGENT), Speaker.BOT, 0)


def test_a_stranger_is_told_that_there_is_no_such_session() -> None:
    for speaker in (Speaker.CUSTOMER, Speaker.AGENT):
        with pytest.raises(UnknownSession):
            check_may_speak(Participation(Stage.ACTIVE, CUSTOMER, AGENT), speaker, STRANGER)
    with pytest.raises(UnknownSession):
        check_may_speak(Participation(Stage.BOT, CUSTOMER, 0), Speaker.AGENT, 0)


def test_an_allowance_gives_a_burst_and_then_refills() -> None:
    allowance = Allowance(burst=3, per_second=2)
    for _ in range(3):
        allowance.spend(100.0)
    with pytest.raises(TooFast) as refused:
        allowance.spend(100.0)
    assert refused.value.retry_after == pytest.approx(0.5)
    allowance.spend(100.5)
    assert not allowance.full_at(100.5)
    assert allowance.full_at(102.1)


@pytest.mark.parametrize(
    ("seen", "previous", "seq", "step"),
    [(5, 5, 9, Step.SHOW), (5, 3, 9, Step.SHOW), (9, 5, 9, Step.SKIP), (12, 5, 9, Step.SKIP), (5, 7, 9, Step.REPAIR)],
)
def test_a_live_entry_is_shown_skipped_or_repaired(seen: int, previous: int, seq: int, step: Step) -> None:
    assert next_step(seen, previous, seq) is step


def test_a_device_is_too_old_only_when_something_can_be_missing() -> None:
    assert is_too_old(seen=10, first_seq=50, opened_before_first=True)
    assert not is_too_old(seen=49, first_seq=50, opened_before_first=True)
    assert is_too_old(seen=0, first_seq=50, opened_before_first=True)
    assert not is_too_old(seen=0, first_seq=50, opened_before_first=False)
