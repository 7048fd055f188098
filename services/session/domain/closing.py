"""What stays of a session: its summary, and what the customer said of how they were served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.session.domain.errors import AlreadyRated, Ended, WrongState
from services.session.domain.session import Session
from services.session.domain.silence import RATED_WITHIN, Speaker, Word

# Of the customer's first words, in characters.
_OPENER: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Satisfaction:
    """What a customer said: from 1, bad, to 5, good, and perhaps in words."""

    score: int
    comment: str = field(default="", repr=False)
    rated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a session was about and what it took. None where it did not come to it."""

    opener: str = field(default="", repr=False)
    topic: str = ""
    customer_messages: int = 0
    agent_messages: int = 0
    bot_messages: int = 0
    waited: timedelta | None = None
    first_response: timedelta | None = None
    handled: timedelta | None = None
    agent_ids: tuple[int, ...] = ()


def summarize(
    words: Iterable[Word], *, handoff_at: datetime | None, accepted_at: datetime | None, ended_at: datetime
) -> Summary:
    """Return the summary of a session that has ended, from its messages in any order."""
    heard = sorted(words, key=lambda word: word.seq)
    count = Counter(word.speaker for word in heard)
    agents = [word for word in heard if word.speaker is Speaker.AGENT]
    return Summary(
        opener=next((word.text for word in heard if word.speaker is Speaker.CUSTOMER and word.text), "")[:_OPENER],
        topic=next((word.topic for word in heard if word.topic), ""),
        customer_messages=count[Speaker.CUSTOMER],
        agent_messages=count[Speaker.AGENT],
        bot_messages=count[Speaker.BOT],
        waited=_between(handoff_at, accepted_at),
        first_response=_between(handoff_at, agents[0].at if agents else None),
        handled=_between(accepted_at, ended_at),
        # A dict keeps the order and drops what comes twice.
        agent_ids=tuple(dict.fromkeys(word.sender_id for word in agents)),
    )


def rate(session: Session, before: Satisfaction | None, said: Satisfaction) -> Satisfaction:
    """Return what stands of what the customer said before, if anything, and says now.

    Raises `AlreadyRated` when it is something else; `Ended` when it is too late; `WrongState` before an agent accepted.
    """
    if before is not None:
        if (before.score, before.comment) != (said.score, said.comment):
            raise AlreadyRated("you have rated this session already; a rating cannot be changed")
        return before
    if session.accepted_at is None:
        raise WrongState("no agent has answered in this session yet; there is nothing to rate")
    if session.ended_at is not None and said.rated_at >= session.ended_at + RATED_WITHIN:
        raise Ended(f"a session can be rated for {RATED_WITHIN.days} days after its end; they are over")
    return said


def _between(start: datetime | None, end: datetime | None) -> timedelta | None:
    """Return the time between, never below zero: two clocks took the times."""
    return None if start is None or end is None else max(end - start, timedelta())
