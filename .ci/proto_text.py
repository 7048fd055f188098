"""Writes a descriptor as the .proto text that compiles to it.

    python .ci/proto_text.py FOLDER    writes FOLDER/buf/validate/validate.proto

No package ships the text of `buf/validate/validate.proto`, and everybody who compiles our contracts needs it. The
`protovalidate` package carries its descriptor, so the text is written from that: it has no comments, and the rules are
exactly those that our servers enforce. Covers what that file uses: proto2, and options of any kind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    text_format,
    timestamp_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from protovalidate._gen.buf.validate import validate_pb

_Field = descriptor_pb2.FieldDescriptorProto
_Range = descriptor_pb2.DescriptorProto.ReservedRange | descriptor_pb2.EnumDescriptorProto.EnumReservedRange
# The file imports these, so the pool has to know them before it.
_IMPORTED = (duration_pb2, field_mask_pb2, timestamp_pb2)
_HEADER = """\
// Written by .ci/proto_text.py from the descriptor in the Python package `protovalidate`; do not edit.
// Protovalidate, https://github.com/bufbuild/protovalidate, Copyright Buf Technologies, Inc.,
// Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""


def main() -> int:
    """Write the file below the folder that is named."""
    data = validate_pb.desc().proto.to_binary()
    # Options are read with the extensions that the file itself defines, so these must be known first.
    descriptor_pool.Default().AddSerializedFile(data)
    file = descriptor_pb2.FileDescriptorProto.FromString(data)
    path = Path(sys.argv[1]) / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEADER + "\n" + "\n".join(_file(file)) + "\n", encoding="utf-8")
    return 0


def _file(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    yield f'syntax = "{file.syntax or "proto2"}";'
    yield ""
    yield f"package {file.package};"
    yield ""
    yield from (f'import "{name}";' for name in file.dependency)
    yield ""
    yield from (f"option {option};" for option in _options(file.options))
    for extension in file.extension:
        yield ""
        yield f"extend {extension.extendee} {{"
        yield f"  {_field(extension)}"
        yield "}"
    for message in file.message_type:
        yield ""
        yield from _message(message)
    for enum in file.enum_type:
        yield ""
        yield from _enum(enum)


def _message(message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    yield f"message {message.name} {{"
    yield from (f"  option {option};" for option in _options(message.options))
    yield from _reserved(message.reserved_range, message.reserved_name, last=1)
    yield from (f"  extensions {_range(each.start, each.end - 1)};" for each in message.extension_range)
    for enum in message.enum_type:
        yield from _indented(_enum(enum))
    for nested in message.nested_type:
        yield from _indented(_message(nested))
    told: set[int] = set()
    for field in message.field:
        if not field.HasField("oneof_index") or field.proto3_optional:
            yield f"  {_field(field)}"
        elif field.oneof_index not in told:
            told.add(field.oneof_index)
            oneof = message.oneof_decl[field.oneof_index]
            yield f"  oneof {oneof.name} {{"
            yield from (f"    option {option};" for option in _options(oneof.options))
            members = [each for each in message.field if each.oneof_index == field.oneof_index]
            yield from (f"    {_field(each)}" for each in members if each.HasField("oneof_index"))
            yield "  }"
    yield "}"


def _enum(enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from (f"  option {option};" for option in _options(enum.options))
    yield from _reserved(enum.reserved_range, enum.reserved_name, last=0)
    for value in enum.value:
        yield f"  {value.name} = {value.number}{_in_brackets(value.options)};"
    yield "}"


def _field(field: _Field) -> str:
    label = {_Field.LABEL_REPEATED: "repeated ", _Field.LABEL_REQUIRED: "required "}.get(field.label, "optional ")
    if field.HasField("oneof_index") and not field.proto3_optional:
        label = ""
    kind = field.type_name or _Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"{label}{kind} {field.name} = {field.number}{_in_brackets(field.options)};"


def _reserved(ranges: Iterable[_Range], names: Iterable[str], *, last: int) -> Iterator[str]:
    """Yield what is reserved; ranges of messages end before their `end`, those of enums with it."""
    yield from (f"  reserved {_range(each.start, each.end - last)};" for each in ranges)
    yield from (f'  reserved "{name}";' for name in names)


def _range(first: int, last: int) -> str:
    if last >= 2**29 - 1:
        return f"{first} to max"
    return f"{first}" if first == last else f"{first} to {last}"


def _in_brackets(options: Message) -> str:
    told = list(_options(options))
    return f" [{', '.join(told)}]" if told else ""


def _options(options: Message) -> Iterator[str]:
    """Yield `name = value` for every option that is set."""
    for field, value in options.ListFields():
        name = f"({field.full_name})" if field.is_extension else field.name
        for each in value if field.is_repeated else (value,):
            yield f"{name} = {_value(field, each)}"


def _value(field: FieldDescriptor, value: Any) -> str:
    if isinstance(value, Message):
        return "{" + text_format.MessageToString(value, as_one_line=True, as_utf8=True) + "}"
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
