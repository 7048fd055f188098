"""Who may be what, whose proof of identity counts, and how long: the rules of users, without I/O.

The errors, each with its reason (octopus.errors.v1.Reason):

    UserError
    ├── NotFound            NOT_FOUND
    ├── AlreadyExists       ALREADY_EXISTS
    ├── Invalid             INVALID_ARGUMENT, names the field
    ├── CredentialsWrong    CREDENTIALS_WRONG
    ├── Disabled            DISABLED
    ├── LockedOut           RATE_LIMITED, says for how long
    ├── TooManyVisitors     RATE_LIMITED, says for how long
    ├── TokenInvalid        TOKEN_INVALID
    └── TokenExpired        TOKEN_EXPIRED
"""

from __future__ import annotations

import hmac
import ipaddress
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, IntEnum, StrEnum, auto
from itertools import pairwise
from typing import ClassVar, TypeVar

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=30)
# A client whose connection broke asks again at once; later it is someone else.
REFRESH_RETRY = timedelta(seconds=10)
SIGNATURE_TOLERANCE = timedelta(minutes=5)
# Failures are forgotten this long after the last one.
GUESS_WINDOW = timedelta(hours=1)
# An address from which somebody logged in counts as theirs for so long.
ADDRESS_KNOWN = timedelta(days=90)
# A new key is published this long before it signs, so that every verifier has seen it.
KEY_LEAD = timedelta(minutes=1)
# A replaced key stays published until no token signed by it can be alive, clock differences included.
KEY_TAIL = ACCESS_LIFETIME + timedelta(minutes=5)


class Kind(IntEnum):
    """What a user is; the numbers of octopus.user.v1.UserKind."""

    VISITOR = 1
    CUSTOMER = 2
    STAFF = 3
    PARTNER = 4


class Role(IntEnum):
    """What a user may do; the numbers of octopus.options.v1.Role that a token can hold."""

    VISITOR = 3
    CUSTOMER = 4
    AGENT = 5
    SUPERVISOR = 6
    KNOWLEDGE_ADMIN = 7
    ADMIN = 8
    PARTNER = 9


class LogOutCause(IntEnum):
    """Why a user's tokens were taken back; the numbers of octopus.user.v1.LogOutCause."""

    SELF = 1
    ADMIN = 2
    PASSWORD_CHANGED = 3
    DISABLED = 4


class Action(StrEnum):
    """What the audit says was done to an account."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    LOGGED_OUT = "logged_out"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # the name of an action, not a password


ACTION_OF_CAUSE = {
    LogOutCause.SELF: Action.LOGGED_OUT,
    LogOutCause.ADMIN: Action.LOGGED_OUT,
    LogOutCause.PASSWORD_CHANGED: Action.PASSWORD_CHANGED,
    LogOutCause.DISABLED: Action.DISABLED,
}

ROLES_OF_KIND = {
    Kind.VISITOR: frozenset({Role.VISITOR}),
    Kind.CUSTOMER: frozenset({Role.CUSTOMER}),
    Kind.STAFF: frozenset({Role.AGENT, Role.SUPERVISOR, Role.KNOWLEDGE_ADMIN, Role.ADMIN}),
    Kind.PARTNER: frozenset({Role.PARTNER}),
}


class UserError(Exception):
    """A rule of this module says no."""

    reason: ClassVar[str]


class NotFound(UserError):
    """There is no such user in this shop."""

    reason = "NOT_FOUND"


class AlreadyExists(UserError):
    """Another user of the shop has this log-in name or client id."""

    reason = "ALREADY_EXISTS"


class Invalid(UserError):
    """A field does not fit the others."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.violations: Sequence[tuple[str, str]] = [(field, description)]


class CredentialsWrong(UserError):
    """Name, password, secret or signature is wrong; which of them is not told."""

    reason = "CREDENTIALS_WRONG"


class Disabled(UserError):
    """The user or the shop may not log in."""

    reason = "DISABLED"


class LockedOut(UserError):
    """Too many wrong passwords before this attempt."""

    reason = "RATE_LIMITED"

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many failed attempts; try again after {math.ceil(retry_after)} s")
        self.retry_after = retry_after


class TooManyVisitors(UserError):
    """One address, or everybody together, makes visitors faster than people come."""

    reason = "RATE_LIMITED"

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many new visitors; try again after {math.ceil(retry_after)} s")
        self.retry_after = retry_after


class TokenInvalid(UserError):
    """The refresh token is unknown, revoked, or was used before."""

    reason = "TOKEN_INVALID"


class TokenExpired(UserError):
    """The refresh token was good once."""

    reason = "TOKEN_EXPIRED"


@dataclass(frozen=True, slots=True)
class GuessLimit:
    """So many failures are free; each further one makes the next attempt wait twice as long as the one before."""

    free: int
    first: timedelta
    longest: timedelta

    def milliseconds(self) -> tuple[int, int, int]:
        """Return the free failures, and both delays in milliseconds."""
        return self.free, int(self.first.total_seconds() * 1000), int(self.longest.total_seconds() * 1000)


# A name at one address: whoever guesses there waits, and nobody elsewhere does.
GUESSES_AT_ADDRESS = GuessLimit(5, timedelta(seconds=1), timedelta(minutes=15))
# The same where this name has logged in before: somebody at the same address must not keep its owner out for long.
GUESSES_AT_KNOWN_ADDRESS = GuessLimit(10, timedelta(seconds=1), timedelta(seconds=30))
# One address that tries one password with many names.
GUESSES_OF_ADDRESS = GuessLimit(50, timedelta(seconds=1), timedelta(minutes=5))
# One name that is tried from many addresses. Short, for it also meets its owner who is somewhere new.
GUESSES_OF_NAME = GuessLimit(50, timedelta(seconds=1), timedelta(seconds=10))


def delay(failures: int, limit: GuessLimit) -> float:
    """Return how many seconds must pass after so many failures before the next attempt."""
    if failures <= limit.free:
        return 0.0
    # More doublings than that are longer than any limit.
    doublings = min(failures - limit.free - 1, 30)
    return min(limit.longest.total_seconds(), limit.first.total_seconds() * float(2**doublings))


def network_of(address: str) -> str:
    """Return what counts as one place: an address of version 4, or the 64-bit network of one of version 6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


@dataclass(frozen=True, slots=True)
class Tenant:
    """A shop. The identity secret is kept apart, sealed."""

    tenant_id: str
    name_zh: str
    name_en: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class User:
    """A person or a system that belongs to one shop; `phone` is E.164, `merged_into` 0 unless merged.

    `token_generation` grows each time all of the user's tokens are taken back.
    """

    id: int
    tenant_id: str
    kind: Kind
    roles: tuple[Role, ...]
    display_name: str
    external_id: str
    created_at: datetime
    phone: str = ""
    tags: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    disabled: bool = False
    merged_into: int = 0
    locale: str = ""
    capacity: int = 0
    token_generation: int = 0


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens of the user from before `generation` are refused."""

    tenant_id: str
    user_id: int
    generation: int
    cause: LogOutCause
    revoked_at: datetime


T = TypeVar("T")


def found(thing: T | None) -> T:
    """Return what was looked for, or raise `NotFound`."""
    if thing is None:
        raise NotFound("there is no such user or shop")
    return thing


def check_new(kind: Kind, roles: Iterable[Role], scopes: Sequence[str], capacity: int) -> tuple[Role, ...]:
    """Return the roles sorted, each once; raise `Invalid` when they, the scopes or the capacity do not fit the kind."""
    wanted = frozenset(roles)
    if not wanted or not wanted <= ROLES_OF_KIND[kind]:
        allowed = ", ".join(role.name for role in sorted(ROLES_OF_KIND[kind]))
        raise Invalid("roles", f"a user of kind {kind.name} has at least one of these roles and no other: {allowed}")
    if scopes and kind is not Kind.PARTNER:
        raise Invalid("scopes", "only partners have scopes; roles say what others may do")
    if capacity:
        check_capacity(kind)
    return tuple(sorted(wanted))


def check_capacity(kind: Kind) -> None:
    """Raise `Invalid` unless users of this kind take sessions."""
    if kind is not Kind.STAFF:
        raise Invalid("capacity", "only staff take sessions and have a capacity")


def visitor_name(user_id: int, locale: str) -> str:
    """Return the name that agents see of a visitor: the word for one in the shopper's language, and four digits."""
    word = "Visitor" if locale.lower().startswith("en") else "访客"
    return f"{word} {user_id % 10_000:04}"


def masked_phone(phone: str) -> str:
    """Return the number with all but its last four digits replaced by asterisks."""
    return "*" * (len(phone) - 4) + phone[-4:] if len(phone) > 4 else "*" * len(phone)


def may_log_in(user: User, tenant: Tenant) -> None:
    """Raise `Disabled` or `TokenInvalid` when the user may have no new token."""
    if tenant.disabled:
        raise Disabled("the shop is disabled; ask the platform's operator")
    if user.disabled:
        raise Disabled("the user is disabled; ask the shop's administrator")
    if user.merged_into:
        raise TokenInvalid("this visitor has become a customer; identify as the customer")


def check_new_password(old: str, new: str) -> None:
    """Raise `Invalid` when the new password is no new one."""
    if old == new:
        raise Invalid("new_password", "the new password must differ from the old one")


def granted_scopes(held: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes of a partner's token, sorted; nothing wanted means all that are held."""
    missing = sorted(set(wanted) - set(held))
    if missing:
        raise Invalid("scopes", f"the partner was not given: {', '.join(missing)}")
    return tuple(sorted(set(wanted or held)))


@dataclass(frozen=True, slots=True)
class SignedShopper:
    """A shopper as the shop's server names and signs one."""

    customer_id: str
    display_name: str
    signed_at_unix: int
    signature: str = field(repr=False)


def identity_text(tenant_id: str, customer_id: str, display_name: str, signed_at_unix: int) -> bytes:
    """Return the bytes that the shop's server signs, as auth_service.proto defines them."""
    return "\n".join((tenant_id, customer_id, display_name, str(signed_at_unix))).encode()


def sign_identity(secret: bytes, text: bytes) -> str:
    """Return the signature of an identity: HMAC-SHA256 in lower-case hexadecimal."""
    return hmac.digest(secret, text, "sha256").hex()


def check_identity(secret: bytes, tenant_id: str, shopper: SignedShopper, now: datetime) -> None:
    """Raise `CredentialsWrong` unless the shop's server signed this identity, at most 5 minutes from now.

    Line feeds part the signed fields, so a name that held one could pass for another customer's id.
    """
    for name, value in (("customer_id", shopper.customer_id), ("display_name", shopper.display_name)):
        if any(ord(character) < 32 for character in value):
            raise Invalid(f"identity.{name}", "control characters are not allowed")
    right = sign_identity(
        secret, identity_text(tenant_id, shopper.customer_id, shopper.display_name, shopper.signed_at_unix)
    )
    fresh = abs(now.timestamp() - shopper.signed_at_unix) <= SIGNATURE_TOLERANCE.total_seconds()
    if not hmac.compare_digest(right, shopper.signature) or not fresh:
        raise CredentialsWrong("the identity's signature is wrong or not of the last 5 minutes; check secret and clock")


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
    # Used up long ago, so somebody holds a copy: the whole family ends.
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
