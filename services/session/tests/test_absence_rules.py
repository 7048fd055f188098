"""When an agent without a connection is away, and when the chats go to others."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise, product

import pytest

from services.session.domain import Absence, AbsenceRules, Agent, AgentStatus, AwayReason

pytestmark = pytest.mark.unit

LONG = timedelta(days=1)
RULES = AbsenceRules(timedelta(seconds=25), timedelta(seconds=90))
PRESENT, AWAY, GONE = Absence


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.parametrize(
    ("offline_for", "acted_ago", "absence"),
    [
        (None, LONG, PRESENT),
        (seconds(0), LONG, PRESENT),
        (seconds(24.9), LONG, PRESENT),
        (seconds(25), LONG, AWAY),
        (seconds(114.9), LONG, AWAY),
        (seconds(115), LONG, GONE),
        (LONG, seconds(24.9), PRESENT),
        (LONG, seconds(25), AWAY),
        (LONG, seconds(115), GONE),
    ],
)
def test_absence_follows_from_the_time_without_a_connection_and_without_a_word(
    offline_for: timedelta | None, acted_ago: timedelta, absence: Absence
) -> None:
    assert RULES.absence(offline_for, acted_ago) is absence


def test_absence_only_grows_with_time() -> None:
    times = [seconds(count) for count in range(0, 200, 5)]
    for rules in (RULES, AbsenceRules(seconds(10), seconds(60)), AbsenceRules(seconds(300), seconds(120))):
        for (before, after), other in product(pairwise(times), times):
            assert rules.absence(before, other) <= rules.absence(after, other)
            assert rules.absence(other, before) <= rules.absence(other, after)


@pytest.mark.parametrize("status", [AgentStatus.AVAILABLE, AgentStatus.BUSY])
@pytest.mark.parametrize("reason", [AwayReason.PAGE_CLOSED, AwayReason.OFFER_LAPSED])
def test_who_vanishes_keeps_the_status_to_return_to(status: AgentStatus, reason: AwayReason) -> None:
    agent = Agent(tenant_id="shop", user_id=1, display_name="小林", status=status)
    away = agent.vanishes(reason)
    assert (away.status, away.away_reason, away.earlier_status) == (AgentStatus.AWAY, reason, status)
    # Also when something else happens meanwhile.
    assert away.vanishes(AwayReason.PAGE_CLOSED) is away


def test_who_chose_to_be_away_has_no_status_to_return_to() -> None:
    agent = Agent(tenant_id="shop", user_id=1, display_name="小林", status=AgentStatus.AWAY)
    assert agent.vanishes(AwayReason.PAGE_CLOSED) is agent
