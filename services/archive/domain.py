"""What an archived message is, and how pages follow each other: without I/O.

Who may read it is the session service's rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Archived:
    """A message as it is kept.

    `body` is its content and its sender's name, serialized. `client_message_id` is its author's own id for it, None
    when it has none. `changes_seq` is the position of the message that it edits or recalls, None for other kinds.
    `internal` messages are for the shop's staff alone.
    """

    tenant_id: str
    session_id: int
    seq: int
    message_id: int
    customer_id: int
    sender_kind: int
    sender_id: int
    sent_at: datetime
    body: bytes
    client_message_id: str | None = None
    changes_seq: int | None = None
    internal: bool = False


def by_tenant(messages: Iterable[Archived]) -> Mapping[str, list[Archived]]:
    """Return the messages of each shop, in the order they came."""
    grouped: dict[str, list[Archived]] = {}
    for message in messages:
        grouped.setdefault(message.tenant_id, []).append(message)
    return grouped


def left_out(written: Sequence[Archived], known: Collection[tuple[int, int]]) -> list[Archived]:
    """Return the messages that were not written, although they are not known (by session and message id)."""
    return [message for message in written if (message.session_id, message.message_id) not in known]


def collided(left_out: Sequence[Archived], posted: Collection[tuple[int, int, str]]) -> list[Archived]:
    """Return those of the skipped messages whose position another message has.

    The log was lost then, and its sequence started again. The others were left out because their author's id stands for
    another message already: `posted` has it, with session and side.
    """
    return [
        message
        for message in left_out
        if (message.session_id, message.sender_kind, message.client_message_id) not in posted
    ]


def first_before(before_seq: int, token_seq: int) -> int | None:
    """Return the `seq` that all messages of a page are below; None for the newest page. 0 means not given."""
    given = [seq for seq in (before_seq, token_seq) if seq]
    return min(given) if given else None


def changeable(messages: Iterable[Archived]) -> set[int]:
    """Return the positions of the messages whose changes must be known to tell these."""
    return {message.seq if message.changes_seq is None else message.changes_seq for message in messages}
