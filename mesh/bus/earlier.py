"""Decode messages that earlier releases stored.

The log keeps messages for days and the history keeps them sealed and without limit, so stored messages are not
rewritten. Every reader of the log decodes with `parse`, here or through `payload.decode`.

- In the first release, the kinds of a message stood in the message itself, not in its `content`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.varint import varint

# Numbers of the fields in `Message` then, and of the same kinds in `Content` now. All are messages.
_KINDS: Final = {8: 2, 9: 3, 10: 4}
_LENGTH_DELIMITED: Final = 2
_FAQ_ID, _QUESTION = 1, 2

M = TypeVar("M", bound=Message)


def parse(message_type: type[M], raw: bytes) -> M:
    """Return the message in `raw`, whichever release wrote it. Raise DecodeError."""
    message = message_type.FromString(raw)
    if isinstance(message, chat_events_pb2.LogEntry) and message.HasField("message"):
        with_content(message.message)
    return message


def with_content(message: message_pb2.Message) -> message_pb2.Message:
    """Move a message's content to where the current release has it, in place, and return it. Raise DecodeError."""
    if message.HasField("content"):
        return message
    for number, data in _unknown(message):
        if number in _KINDS and isinstance(data, bytes):
            tag = bytes([_KINDS[number] << 3 | _LENGTH_DELIMITED])
            message.content.MergeFromString(tag + varint(len(data)) + data)
    if message.content.HasField("answer"):
        message.content.fallback_text = message.content.answer.text
        for source in message.content.answer.sources:
            for number, value in _unknown(source):
                if number == _FAQ_ID and isinstance(value, int):
                    source.faq_entry.faq_id = value
                elif number == _QUESTION and isinstance(value, bytes):
                    source.title = value.decode(errors="replace")
    message.DiscardUnknownFields()
    return message


def _unknown(message: Message) -> Iterator[tuple[int, object]]:
    unknown = UnknownFieldSet(message)
    for place in range(len(unknown)):
        yield unknown[place].field_number, unknown[place].data
