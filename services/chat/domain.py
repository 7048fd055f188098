"""The rules of a conversation: who may post, at which rate, and where a device resumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar, Final


class ChatError(Exception):
    """A frame that breaks a rule.

    The tree, with the reason each carries (a name of `octopus.errors.v1.Reason`)::

        ChatError
        ├── UnknownSession      NOT_FOUND
        ├── SessionOver         SESSION_ENDED
        ├── NotYourTurn         SESSION_STATE
        ├── NotForYou           ROLE_NOT_ALLOWED
        ├── UnknownMessage      NOT_FOUND
        ├── TooLate             TOO_LATE
        ├── TooFast             RATE_LIMITED
        ├── LogMoved            VERSION_CONFLICT
        ├── SensitiveText       SENSITIVE_WORD
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


class UnknownMessage(ChatError):
    """A message names an earlier one that is not there for its author."""

    reason = "NOT_FOUND"


class TooLate(ChatError):
    """The time in which an earlier message could be changed has passed."""

    reason = "TOO_LATE"


class TooFast(ChatError):
    """The person sends faster than allowed; `retry_after` is in seconds."""

    reason = "RATE_LIMITED"

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many messages; wait {retry_after:.1f} s and send again")
        self.retry_after = retry_after


class LogMoved(ChatError):
    """The session's log has entries that the sender had not seen."""

    reason = "VERSION_CONFLICT"


class SensitiveText(ChatError):
    """The text has a word that the shop does not allow."""

    reason = "SENSITIVE_WORD"


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


# How long after it was taken a message can be recalled, in seconds.
RECALL_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message that a later one names, as seen by the rules. `sent_at` is in seconds since the epoch."""

    # None for the platform's own.
    side: Speaker | None
    author_id: int
    sent_at: float
    is_text: bool
    has_words: bool
    # For staff alone.
    internal: bool = False
    recalled: bool = False


def check_may_recall(earlier: Earlier | None, speaker: Speaker, user_id: int, now: float) -> None:
    """Check that a participant may take an earlier message of a session back.

    Raises:
        UnknownMessage: there is no such message, or it is not a text.
        NotForYou: somebody else wrote it.
        TooLate: it was sent more than `RECALL_WITHIN_S` ago.

    """
    text = _own_text(earlier, speaker, user_id)
    if now - text.sent_at > RECALL_WITHIN_S:
        raise TooLate(f"a message can be recalled within {RECALL_WITHIN_S:.0f} s; this one is older")


def check_may_edit(earlier: Earlier | None, speaker: Speaker, user_id: int) -> None:
    """Check that a participant may replace the text of an earlier message of a session.

    Raises:
        UnknownMessage: there is no such message, or it is not a text.
        NotForYou: somebody else wrote it.
        TooLate: it was recalled.

    """
    if earlier is not None and earlier.recalled:
        raise TooLate("the message was recalled; send a new one")
    _own_text(earlier, speaker, user_id)


def check_may_quote(earlier: Earlier | None, *, internally: bool) -> None:
    """Check that an earlier message of a session can be quoted; `internally` by a message for staff alone.

    Raises:
        UnknownMessage: there is no such message, it has no words, or those who would read the quote are not shown it.

    """
    if earlier is None or not earlier.has_words or (earlier.internal and not internally):
        raise UnknownMessage("there is no message with words at the quoted position of this session")


def _own_text(earlier: Earlier | None, speaker: Speaker, user_id: int) -> Earlier:
    if earlier is None or not (earlier.is_text or earlier.recalled):
        raise UnknownMessage("there is no text at the named position of this session")
    # There is one customer, who may have been a visitor when it was said.
    if earlier.side is not speaker or (speaker is not Speaker.CUSTOMER and earlier.author_id != user_id):
        raise NotForYou("somebody else wrote this message; only its author can change it")
    return earlier


def check_may_note(session: Participation, speaker: Speaker) -> None:
    """Check that somebody who may see a session may write a note in it.

    Raises:
        NotForYou: only staff write notes.
        SessionOver: the session has ended.

    """
    if speaker is not Speaker.AGENT:
        raise NotForYou("only agents and supervisors write internal notes; send a text")
    if session.stage is Stage.ENDED:
        raise SessionOver("the session has ended; it takes no more notes")


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
