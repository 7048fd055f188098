"""Format messages for the log without personal data, by the field options of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from google.protobuf import any_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from octopus.options.v1 import options_pb2

_HIDDEN: Final = "***"
_LONGEST: Final = 1000


def mask(message: Message) -> str:
    """Return a message on one line for a log: personal data masked, bytes by their number, at most 1,000 characters."""
    text = "{" + ", ".join(_fields(message)) + "}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def mask_text(kind: int, text: str) -> str:
    """Return one value of personal data, masked; `kind` is a value of `PersonalData`."""
    match kind:
        case options_pb2.PERSONAL_DATA_UNSPECIFIED:
            return text
        case options_pb2.PERSONAL_DATA_NAME:
            return f"{text[:1]}*" if text else ""
        case options_pb2.PERSONAL_DATA_PHONE:
            # The last four digits of a short number would be most of it.
            return f"*{text[-4:]}" if len(text) > 6 else _HIDDEN
        case options_pb2.PERSONAL_DATA_EMAIL:
            _, at, domain = text.rpartition("@")
            return f"*@{domain}" if at else _HIDDEN
        case options_pb2.PERSONAL_DATA_TEXT:
            return f"<{len(text)} characters>"
        case _:
            # Includes kinds that are newer than this code.
            return _HIDDEN


def _fields(message: Message) -> Iterator[str]:
    if isinstance(message, any_pb2.Any):
        # The packed message may contain anything.
        yield f"type_url: {message.type_url}"
        return
    kinds = _personal(message.DESCRIPTOR)
    for field, value in message.ListFields():
        yield f"{field.name}: {_shown(field, value, kinds.get(field.number, 0))}"


def _shown(field: FieldDescriptor, value: Any, kind: int) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        # Keys are shown: a test checks that no contract has personal data there.
        entry = field.message_type.fields_by_name["value"]
        return "{" + ", ".join(f"{key}: {_single(entry, value[key], kind)}" for key in value) + "}"
    if field.is_repeated:
        return "[" + ", ".join(_single(field, item, kind) for item in value) + "]"
    return _single(field, value, kind)


def _single(field: FieldDescriptor, value: Any, kind: int) -> str:
    if kind:
        return mask_text(kind, value) if isinstance(value, str) else _HIDDEN
    if isinstance(value, Message):
        return "{" + ", ".join(_fields(value)) + "}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else str(value)
    return repr(value) if isinstance(value, str) else str(value)


@cache
def _personal(descriptor: Descriptor) -> dict[int, int]:
    """Return the kind of personal data by field number."""
    return {
        field.number: kind
        for field in descriptor.fields
        if (kind := field.GetOptions().Extensions[options_pb2.personal_data])
    }
