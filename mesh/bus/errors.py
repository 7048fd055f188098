"""Errors of the bus.

    BusError                       the root; catch it to catch all of them
    ├── Unavailable                NATS cannot be reached or does not answer in time; try again    (UNAVAILABLE)
    ├── Full                       the stream is full; nothing was stored                          (STORAGE_FULL)
    ├── Conflict                   the subject's last sequence is not the expected one             (VERSION_CONFLICT)
    ├── Rejected                   the server would refuse the request again: a bug or a limit     (INTERNAL)
    ├── NotStored                  no such message, key or stream                                  (INTERNAL)
    └── Poison                     a message that no retry can handle; from handlers and decoders  (INTERNAL)

`reason` names the value of `octopus.errors.v1.Reason` (without prefix) that RPC clients receive.
"""

from typing import ClassVar


class BusError(Exception):
    """The root of the errors of the bus."""

    reason: ClassVar[str] = "INTERNAL"


class Unavailable(BusError):
    """NATS cannot be reached, or has not answered before the caller's timeout. Trying again may help."""

    reason: ClassVar[str] = "UNAVAILABLE"


class Full(BusError):
    """The stream is full; the message was not stored, and no stored message was deleted.

    `retry_after` is in seconds.
    """

    reason: ClassVar[str] = "STORAGE_FULL"
    retry_after: ClassVar[float] = 5.0


class Conflict(BusError):
    """The last sequence of the subject is not the one that the publisher expected; nothing was stored.

    `last_seq` is the subject's actual last sequence, or None where the server does not report it.
    """

    reason: ClassVar[str] = "VERSION_CONFLICT"

    def __init__(self, description: str, *, last_seq: int | None = None) -> None:
        super().__init__(description)
        self.last_seq = last_seq


class Rejected(BusError):
    """The server refused the request and would refuse it again: too large, not permitted, malformed."""


class NotStored(BusError):
    """The message, key or stream does not exist."""


class Poison(BusError):
    """A message that no retry can handle. A consumer's handler raises it to move the message to the dead letters."""
