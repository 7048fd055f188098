"""How long tokens live, what presenting a refresh token means, and which key signs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from itertools import pairwise

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=30)
# A client whose connection broke asks again at once; later it is someone else.
REFRESH_RETRY = timedelta(seconds=10)
# A new key is published this long before it signs, so that every verifier has seen it.
KEY_LEAD = timedelta(minutes=1)
# A replaced key stays published until no token signed by it can be alive, clock differences included.
KEY_TAIL = ACCESS_LIFETIME + timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What is kept of a refresh token; `successor_used` says whether the one that replaced it was ever used."""

    tenant_id: str
    user_id: int
    family: int
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None
    successor_hash: bytes | None = None
    successor_used: bool = False


class Standing(Enum):
    """What presenting a refresh token means."""

    FRESH = auto()
    # The client did not get our answer and asks again: it gets the same successor.
    REPEATED = auto()
    # Used before, so it was copied: the whole family is revoked.
    STOLEN = auto()
    EXPIRED = auto()
    REVOKED = auto()


def standing(token: RefreshToken, now: datetime) -> Standing:
    """Return what presenting this token now means.

    A thief who is as quick as `REFRESH_RETRY` shares the successor with its owner; the first of the two
    who comes later than that with a used token reveals it.
    """
    if token.revoked_at is not None:
        return Standing.REVOKED
    if token.used_at is not None:
        retried = now - token.used_at <= REFRESH_RETRY and not token.successor_used
        return Standing.REPEATED if retried else Standing.STOLEN
    return Standing.FRESH if now < token.expires_at else Standing.EXPIRED


def signing_key(active_from: dict[str, datetime], now: datetime) -> str | None:
    """Return the id of the key that signs now: of those already active, the one that became so last.

    None only without any key: the first one signs even on a machine whose clock is behind.
    """
    active = [(since, kid) for kid, since in active_from.items() if since <= now]
    if not active:
        return min(active_from, key=lambda kid: active_from[kid], default=None)
    return max(active)[1]


def next_activation(active_from: dict[str, datetime], now: datetime, rotate_after: timedelta) -> datetime | None:
    """Return when a new key should become active, or None while the newest is young enough.

    The very first key is active at once; every other one after `KEY_LEAD`.
    """
    if not active_from:
        return now
    newest = max(active_from.values())
    return now + KEY_LEAD if now - newest >= rotate_after else None


def ended_keys(active_from: dict[str, datetime], now: datetime) -> set[str]:
    """Return the ids of the keys by which no living token can be signed."""
    ordered = sorted((since, kid) for kid, since in active_from.items())
    return {kid for (_, kid), (replaced, _) in pairwise(ordered) if replaced + KEY_TAIL < now}
