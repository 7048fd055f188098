"""Errors of stores that are not programming errors.

    StoreError                     the root
    ├── Unavailable                the store cannot be reached, or the connection was lost; try again (UNAVAILABLE)
    ├── TooSlow                    a statement took longer than its limit and was cancelled          (DEADLINE_EXCEEDED)
    └── Unstorable                 a text contains what the store cannot keep                        (INVALID_ARGUMENT)

After Unavailable in the middle of a transaction it is not known whether it was committed, so retried work must
be idempotent. `reason` names the value of `octopus.errors.v1.Reason` under which RPC shows the error.
"""

from typing import ClassVar


class StoreError(Exception):
    """The root of the stores' errors."""

    reason: ClassVar[str] = "INTERNAL"


class Unavailable(StoreError):
    """The store cannot be reached. Trying again may help."""

    reason: ClassVar[str] = "UNAVAILABLE"


class TooSlow(StoreError):
    """A statement took longer than its limit."""

    reason: ClassVar[str] = "DEADLINE_EXCEEDED"


class Unstorable(StoreError):
    """A text contains what the store cannot keep. Trying again does not help."""

    reason: ClassVar[str] = "INVALID_ARGUMENT"
