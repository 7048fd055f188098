"""What can go wrong on the bus.

    BusError                       the root; catch it to catch all of them
    ├── Unavailable                NATS cannot be reached or does not answer in time; try again    (UNAVAILABLE)
    ├── Full                       the stream is full; nothing was stored                          (STORAGE_FULL)
    ├── Conflict                   the subject's last sequence is not the expected one             (VERSION_CONFLICT)
    ├── Rejected                   the server refuses the request for good: a bug or a limit       (INTERNAL)
    ├── NotStored                  no such message, key or stream                                  (INTERNAL)
    └── Poison                     a message no retry can help; raised by handlers and decoders    (INTERNAL)

`reason` names the value of `octopus.errors.v1.Reason` (without prefix) under which RPC shows the error.
"""

from typing import ClassVar


class BusError(Exception):
    """The root of the errors of the bus."""

    reason: ClassVar[str] = "INTERNAL"


class Unavailable(BusError):
    """NATS cannot be reached, or has not answered before the caller's timeout. Trying again may help."""

    reason: ClassVar[str] = "UNAVAILABLE"


class Full(BusError):
    """The stream holds as much as it may; the message was not stored, and none that is stored was given up for it.

    `retry_after` is in seconds.
    """

    reason: ClassVar[str] = "STORAGE_FULL"
    retry_after: ClassVar[float] = 5.0


class Conflict(BusError):
    """The last sequence of the subject is not the one that the publisher expected; nothing was stored.

    `last_seq` is the sequence that the subject really has, or None where the server does not tell.
    """

    reason: ClassVar[str] = "VERSION_CONFLICT"

    def __init__(self, description: str, *, last_seq: int | None = None) -> None:
        super().__init__(description)
        self.last_seq = last_seq


class Rejected(BusError):
    """The server refused the request and would refuse it again: too large, not permitted, malformed."""


class NotStored(BusError):
    """The message, key or stream that was asked for is not there."""


class Poison(BusError):
    """A message that no retry can help. A consumer's handler raises it to send the message to the dead letters."""
