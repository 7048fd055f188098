"""The refusals, each with its reason (octopus.errors.v1.Reason).

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

import math
from collections.abc import Sequence
from typing import ClassVar


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
    """Name, password, secret or signature is wrong; the error does not say which."""

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
    """One address, or all together, create visitors too fast."""

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
