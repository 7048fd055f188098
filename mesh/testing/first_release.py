"""Log entries as the first release stored them, for tests of those who read the log."""

from __future__ import annotations

from octopus.chat.v1 import chat_events_pb2

# Numbers of the fields of `Message` that held the kinds of `Content`. All of them, and their contents, are below 128.
_KINDS = {"text": 8, "answer": 9, "change": 10}
_MESSAGE = 1


def stored_by_the_first_release(entry: chat_events_pb2.LogEntry) -> bytes:
    """Return the bytes of an entry whose message has short contents."""
    kind = entry.message.content.WhichOneof("kind")
    assert kind is not None
    content = getattr(entry.message.content, kind).SerializeToString()
    rest = chat_events_pb2.LogEntry()
    rest.CopyFrom(entry)
    rest.message.ClearField("content")
    message = rest.message.SerializeToString() + _field(_KINDS[kind], content)
    rest.ClearField("message")
    return rest.SerializeToString() + _field(_MESSAGE, message)


def _field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data
