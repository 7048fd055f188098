"""Taking back a user's tokens: the causes, and what the audit calls them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class LogOutCause(IntEnum):
    """Why a user's tokens were revoked; the numbers of octopus.user.v1.LogOutCause."""

    SELF = 1
    ADMIN = 2
    PASSWORD_CHANGED = 3
    DISABLED = 4
    MERGED = 5


class Action(StrEnum):
    """What the audit says was done to an account."""

    DISABLED = "disabled"
    MERGED = "merged"
    ENABLED = "enabled"
    LOGGED_OUT = "logged_out"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # the name of an action, not a password


ACTION_OF_CAUSE = {
    LogOutCause.SELF: Action.LOGGED_OUT,
    LogOutCause.ADMIN: Action.LOGGED_OUT,
    LogOutCause.PASSWORD_CHANGED: Action.PASSWORD_CHANGED,
    LogOutCause.DISABLED: Action.DISABLED,
    LogOutCause.MERGED: Action.MERGED,
}


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens of the user from before `generation` are refused."""

    tenant_id: str
    user_id: int
    generation: int
    cause: LogOutCause
    revoked_at: datetime
