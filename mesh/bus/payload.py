"""Payloads: protobuf bytes, with the message's full name in the header `Octopus-Type`."""

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from mesh.bus.earlier import parse
from mesh.bus.errors import Poison

TYPE_HEADER = "Octopus-Type"
MESSAGE_ID_HEADER = "Nats-Msg-Id"
# Set by the server: where a message was stored.
STREAM_HEADER = "Nats-Stream"
SUBJECT_HEADER = "Nats-Subject"
# Set by `mesh.bus.client` on a message that names two streams.
TWICE_HEADER = "Octopus-Stored-Twice"

M = TypeVar("M", bound=Message)


def type_of(message: Message | type[Message]) -> str:
    """Return the full name of a message's type, e.g. `octopus.chat.v1.LogEntry`."""
    return message.DESCRIPTOR.full_name


def decode(raw: bytes, headers: Mapping[str, str], message_type: type[M]) -> M:
    """Return the message in `raw`. Raise Poison for another type in the header, none, or bytes that do not parse."""
    stated = headers.get(TYPE_HEADER)
    expected = type_of(message_type)
    if stated != expected:
        raise Poison(f"expected a message of type {expected}, but the header {TYPE_HEADER} says {stated}")
    try:
        return parse(message_type, raw)
    except DecodeError as error:
        raise Poison(f"the payload is not a valid {expected}") from error
