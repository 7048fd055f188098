"""The rules of a conversation: who may post, at which rate, and where a device resumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar


class ChatError(Exception):
    """A frame that breaks a rule.

    The tree, with the reason each carries (a name of `octopus.errors.v1.Reason`)::

        ChatError
        ├── UnknownSession      NOT_FOUND
        ├── SessionOver         SESSION_ENDED
        ├── NotYourTurn         SESSION_STATE
        ├── NotForYou           ROLE_NOT_ALLOWED
        ├── TooFast             RATE_LIMITED
        ├── LogMoved            VERSION_CONFLICT
        └── OutOfOrder          PROTOCOL
    """

    reason: ClassVar[str]


class UnknownSession(ChatError):
    """The session does not exist, or belongs to someone else."""

    reason = "NOT_FOUND"


class SessionOver(ChatError):
    """The session has ended."""

    reason = "SESSION_ENDED"


class NotYourTurn(ChatError):
    """The session is not in a state in which this participant may post."""

    reason = "SESSION_STATE"


class NotForYou(ChatError):
    """This kind of participant may not send this kind of content."""

    reason = "ROLE_NOT_ALLOWED"


class TooFast(ChatError):
    """The person sends faster than allowed; `retry_after` is in seconds."""

    reason = "RATE_LIMITED"

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many messages; wait {retry_after:.1f} s and send again")
        self.retry_after = retry_after


class LogMoved(ChatError):
    """The session's log has entries that the sender had not seen."""

    reason = "VERSION_CONFLICT"


class OutOfOrder(ChatError):
    """A frame came where the protocol does not allow it."""

    reason = "PROTOCOL"


class Speaker(Enum):
    """The kind of a participant."""

    CUSTOMER = auto()
    AGENT = auto()
    BOT = auto()


class Stage(Enum):
    """The state of a session, as far as it decides who may post."""

    BOT = auto()
    WAITING = auto()
    ASSIGNED = auto()
    ACTIVE = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Participation:
    """A session as seen by the rules."""

    stage: Stage
    customer_id: int
    agent_id: int
    # Whether an agent has ever accepted it.
    accepted: bool = False

    def includes(self, user_id: int) -> bool:
        """Return whether the person takes part in the session."""
        return user_id != 0 and user_id in (self.customer_id, self.agent_id)


def check_may_speak(session: Participation, speaker: Speaker, user_id: int) -> None:
    """Check that a participant may post in a session.

    A customer may post until the session ends. An agent may post once the offer is accepted. The bot may post until
    an agent has accepted, also while a person is waited for.

    Raises:
        UnknownSession: the person does not take part.
        SessionOver: the session has ended.
        NotYourTurn: an agent has not accepted yet, or the bot posts after one has.

    """
    if speaker is not Speaker.BOT and not session.includes(user_id):
        raise UnknownSession("no such session among yours")
    if session.stage is Stage.ENDED:
        raise SessionOver("the session has ended; open a new one")
    if speaker is Speaker.BOT and (session.accepted or session.stage is Stage.ACTIVE):
        raise NotYourTurn("an agent has accepted the session; the bot does not speak in it any more")
    if speaker is Speaker.AGENT and session.stage is not Stage.ACTIVE:
        raise NotYourTurn("accept the session before you write in it")


@dataclass(slots=True)
class Allowance:
    """A token bucket: how many messages a person may still send.

    `burst` messages at once, refilled with `per_second`. Times are seconds of any monotonic clock.
    """

    burst: float
    per_second: float
    left: float = field(init=False)
    at: float = -math.inf

    def __post_init__(self) -> None:
        self.left = self.burst

    def spend(self, now: float) -> None:
        """Take one message out of the bucket.

        Raises:
            TooFast: the bucket is empty; has the time until the next token.

        """
        if self.at > -math.inf:
            self.left = min(self.burst, self.left + (now - self.at) * self.per_second)
        self.at = now
        if self.left < 1:
            raise TooFast((1 - self.left) / self.per_second)
        self.left -= 1

    def full_at(self, now: float) -> bool:
        """Return whether the bucket has refilled, so that forgetting it changes nothing."""
        return self.left + (now - self.at) * self.per_second >= self.burst


class Step(Enum):
    """What to do with an entry of a session's log that arrives live."""

    SHOW = auto()
    SKIP = auto()
    REPAIR = auto()


def next_step(last: int, previous_seq: int, seq: int) -> Step:
    """Decide about a live entry.

    `last` is the last position known, `previous_seq` the position of the session's entry before this one. An entry that
    is known is skipped; when entries between were missed, the log must be read again from `last`.
    """
    if seq <= last:
        return Step.SKIP
    return Step.SHOW if previous_seq <= last else Step.REPAIR


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream begins in a session: it is shown what comes after `seen`.

    `first_seq` is the position from which on messages follow when not all that was missed follows, None when all does.
    """

    seen: int
    first_seq: int | None


def resume(
    seen: int, *, held_after: int, held_first: int, log_first: int, log_last: int, opened_before_log: bool
) -> Start:
    """Decide what a device is shown that has a session up to `seen` (0 for none).

    `held_after` is the position after which the session's newest entries are at hand, `held_first` the first of those
    (0 without any). `log_first` and `log_last` are the positions from where to where the whole log goes, and
    `opened_before_log` says whether the session is older than its first entry.
    """
    if seen > log_last:
        # The device has seen a later position than the log has: the log was lost and its sequence started again.
        return Start(held_after, held_first or log_first)
    if seen < held_after:
        return Start(held_after, held_first or log_first)
    if is_too_old(seen, log_first, opened_before_log):
        return Start(seen, log_first)
    return Start(seen, None)


def is_too_old(seen: int, first_seq: int, opened_before_first: bool) -> bool:
    """Return whether entries that a device has not seen may have left the log.

    `seen` is the device's position (0 for none), `first_seq` the first position the log still has,
    `opened_before_first` whether the session is older than that entry.
    """
    return opened_before_first and seen < first_seq - 1
