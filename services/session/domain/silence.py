"""When a customer is silent: whose turn it is, the reminder, and the end.

The silence counts from the agent's last message, when the customer has not answered it. A chat in which the agent owes
the answer is never silent, nor one whose agent has not written since accepting it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from services.session.domain.session import Session, SessionState

# How long after the end a customer may say how they were served.
RATED_WITHIN: Final = timedelta(days=7)


class Speaker(Enum):
    """Who wrote a message."""

    CUSTOMER = auto()
    AGENT = auto()
    BOT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A message, as far as the life of its session depends on it. `seq` is its position in the log."""

    seq: int
    at: datetime
    speaker: Speaker
    sender_id: int = 0
    # Of a customer's text.
    text: str = ""
    # Of the bot's answer: the title of its best source.
    topic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How sessions of a shop go on and end. A duration of zero switches what it is about off."""

    remind_after: timedelta = timedelta(minutes=5)
    close_after: timedelta = timedelta(minutes=3)
    return_within: timedelta = timedelta(minutes=30)
    ask_satisfaction: bool = True

    def rate_until(self, session: Session, now: datetime) -> datetime | None:
        """Return until when the customer of a session that ends now is asked how they were served, None when not."""
        return now + RATED_WITHIN if self.ask_satisfaction and session.accepted_at is not None else None

    def closes_at(self, warned_at: datetime) -> datetime | None:
        """Return when a session ends whose customer is reminded now, None when it does not end by itself."""
        return warned_at + self.close_after if self.close_after else None

    def continues(self, last: Session, now: datetime) -> bool:
        """Return whether a session that is opened now continues the customer's last one."""
        return last.ended_at is not None and now - last.ended_at < self.return_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Who wrote last, by positions in the log; 0 when nobody."""

    customer_seq: int = 0
    agent_seq: int = 0
    # When the agent's last message was stored.
    agent_at: datetime | None = None
    # The last message of either when the customer was reminded.
    warned_seq: int = 0

    @property
    def last_seq(self) -> int:
        """Return the position of the last message of either."""
        return max(self.customer_seq, self.agent_seq)

    def hear(self, word: Word) -> Turn:
        """Take a message in. In any order and any number of times, the same messages give the same turn."""
        if word.speaker is Speaker.CUSTOMER and word.seq > self.customer_seq:
            return replace(self, customer_seq=word.seq)
        if word.speaker is Speaker.AGENT and word.seq > self.agent_seq:
            return replace(self, agent_seq=word.seq, agent_at=word.at)
        return self

    def silent_since(self, session: Session) -> datetime | None:
        """Return since when the customer owes an answer; None when it is not their turn."""
        if self.agent_at is None or self.agent_seq <= self.customer_seq or session.accepted_at is None:
            return None
        # What an agent wrote who had the session before is nothing that the present one waits for.
        return self.agent_at if self.agent_at >= session.accepted_at else None


class Step(Enum):
    """What is due in a session."""

    NOTHING = auto()
    # Remind the customer.
    WARN = auto()
    # Somebody has written after the reminder.
    RESUME = auto()
    # Nobody has.
    CLOSE = auto()


def due(session: Session, turn: Turn, settings: Settings, now: datetime) -> Step:
    """Return what is due now. The only clock is the argument."""
    if session.state is SessionState.WARNING:
        if turn.last_seq > turn.warned_seq:
            return Step.RESUME
        return Step.CLOSE if session.closes_at is not None and session.closes_at <= now else Step.NOTHING
    since = turn.silent_since(session)
    if session.state is not SessionState.ACTIVE or since is None or not settings.remind_after:
        return Step.NOTHING
    return Step.WARN if now - since >= settings.remind_after else Step.NOTHING
