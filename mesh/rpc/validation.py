"""Validate messages by the rules of their contract while they are decoded.

A message that breaks a rule, or bytes that are not a message, become an `Invalid`. Handlers do not see it: the call
ends with INVALID_ARGUMENT and the violations. A handler of a client stream that is marked with `takes_invalid` gets
the `Invalid` in its place in the stream, and can refuse that message and continue:

```
@takes_invalid
async def Converse(self, request_iterator: AsyncIterator[ConverseRequest | Invalid], context: ...) -> ...:
    async for request in request_iterator:
        if isinstance(request, Invalid):
            yield refusal(request.refused())
            continue
```
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import protovalidate
from google.protobuf.message import DecodeError, Message
from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused

_F = TypeVar("_F", bound=Callable[..., Any])
_MARK: Final = "takes_invalid_messages"
_validator: Final = protovalidate.Validator()

# More would make the answer's header larger than proxies accept.
_MOST_VIOLATIONS: Final = 16


@dataclass(frozen=True, slots=True)
class Invalid:
    """A message that its contract does not allow. `message` is None when the bytes could not be decoded."""

    violations: tuple[tuple[str, str], ...]
    message: Message | None = None

    def refused(self) -> Refused:
        """Return the failure that the sender gets."""
        if self.message is None:
            return Refused(errors_pb2.REASON_INVALID_ARGUMENT, "the bytes are not a message of the contract")
        shown = "; ".join(f"{field}: {what}" if field else what for field, what in self.violations[:3])
        return Refused(errors_pb2.REASON_INVALID_ARGUMENT, shown, violations=self.violations)


def violations_of(message: Message) -> tuple[tuple[str, str], ...]:
    """Return pairs of a field path and its violation; empty for a valid message."""
    found = _validator.collect_violations(message)
    if not found:
        return ()
    return tuple((_path(violation), violation.proto.message) for violation in found[:_MOST_VIOLATIONS])


def check(message: Message) -> None:
    """Raise `Refused` (INVALID_ARGUMENT with the violations) when the message breaks a rule of its contract."""
    if violations := violations_of(message):
        raise Invalid(violations, message).refused()


def takes_invalid(handler: _F) -> _F:
    """Mark a handler of a client stream that receives `Invalid` messages instead of the call being ended."""
    setattr(handler, _MARK, True)
    return handler


def wants_invalid(handler: Callable[..., Any]) -> bool:
    """Return whether the handler was marked with `takes_invalid`."""
    return getattr(handler, _MARK, False)


def reader(decode: Callable[[bytes], Message], *, checked: bool = True) -> Callable[[bytes], Message | Invalid]:
    """Return a deserialiser that validates and never raises: gRPC would answer UNKNOWN and log the bytes."""

    def read(data: bytes) -> Message | Invalid:
        try:
            message = decode(data)
        except DecodeError:
            return Invalid(())
        violations = violations_of(message) if checked else ()
        return Invalid(violations, message) if violations else message

    return read


async def valid_only(requests: AsyncIterator[Message | Invalid]) -> AsyncIterator[Message]:
    """Yield the messages of a client stream up to the first invalid one, which raises `Refused`."""
    async for request in requests:
        if isinstance(request, Invalid):
            raise request.refused()
        yield request


def _path(violation: protovalidate.Violation) -> str:
    """Return the field's path as in JSON pointers of protobuf: `identity.signature`, `cursors[3].seq`."""
    field = violation.proto.field
    if field is None:
        return ""
    path = ""
    for element in field.elements:
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path
