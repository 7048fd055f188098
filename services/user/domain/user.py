"""What a user is: kinds, roles, fields and what they may be; and the shop they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TypeVar

from services.user.domain.errors import Disabled, Invalid, NotFound, TokenInvalid


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


ROLES_OF_KIND = {
    Kind.VISITOR: frozenset({Role.VISITOR}),
    Kind.CUSTOMER: frozenset({Role.CUSTOMER}),
    Kind.STAFF: frozenset({Role.AGENT, Role.SUPERVISOR, Role.KNOWLEDGE_ADMIN, Role.ADMIN}),
    Kind.PARTNER: frozenset({Role.PARTNER}),
}


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

    `token_generation` grows each time all of the user's tokens are revoked.
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


def granted_scopes(held: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes of a partner's token, sorted; nothing wanted means all that are held."""
    missing = sorted(set(wanted) - set(held))
    if missing:
        raise Invalid("scopes", f"the partner was not given: {', '.join(missing)}")
    return tuple(sorted(set(wanted or held)))
