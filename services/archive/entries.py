"""Log entries as they are kept, and back, with the edits and recalls that came later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.bus import Delivery, Poison
from mesh.bus.earlier import with_content
from mesh.rpc.kinds import is_internal
from mesh.rpc.timestamps import from_wire, to_wire
from services.archive.domain import Archived


def archived(delivery: Delivery[chat_events_pb2.LogEntry]) -> Archived:
    """Return what is kept of an entry. Poison when it is not what its subject says it is."""
    entry = delivery.message
    message = entry.message
    if delivery.subject != f"log.{entry.tenant_id}.{message.session_id}" or message.id <= 0:
        raise Poison("the entry is not of the shop and session that its subject names, or has no message id")
    body = message_pb2.Message()
    body.CopyFrom(message)
    # These have columns of their own, and the position comes from the stream.
    for column in ("id", "session_id", "seq", "previous_seq", "sent_at", "client_message_id"):
        body.ClearField(column)
    body.sender.ClearField("user_id")
    body.sender.ClearField("kind")
    return Archived(
        tenant_id=entry.tenant_id,
        session_id=message.session_id,
        seq=delivery.seq,
        message_id=message.id,
        customer_id=entry.customer_id,
        sender_kind=message.sender.kind,
        sender_id=message.sender.user_id,
        sent_at=from_wire(message.sent_at),
        body=body.SerializeToString(),
        client_message_id=message.client_message_id or None,
        changes_seq=message.content.edit.target_seq or message.content.recall.target_seq or None,
        internal=is_internal(message.content),
    )


def message(kept: Archived) -> message_pb2.Message:
    """Return the message that was kept; `previous_seq` is 0."""
    told = with_content(message_pb2.Message.FromString(kept.body))
    told.id = kept.message_id
    told.session_id = kept.session_id
    told.seq = kept.seq
    told.sender.user_id = kept.sender_id
    told.sender.kind = message_pb2.SenderKind.ValueType(kept.sender_kind)
    told.sent_at.CopyFrom(to_wire(kept.sent_at))
    if kept.client_message_id is not None:
        told.client_message_id = kept.client_message_id
    return told


def told(kept: Sequence[Archived], changes: Iterable[Archived]) -> list[message_pb2.Message]:
    """Return messages as they read now.

    `changes` are the edits and recalls of these messages, and of those that they change, in the order of the log.
    """
    by_target: dict[int, list[message_pb2.Message]] = {}
    for change in changes:
        if change.changes_seq is not None:
            by_target.setdefault(change.changes_seq, []).append(message(change))
    return [_as_of(message(each), by_target.get(each.changes_seq or each.seq, [])) for each in kept]


def versions(original: Archived, changes: Sequence[Archived]) -> list[message_pb2.Message]:
    """Return a text before and after each of its edits, or once and without words when it was recalled."""
    edits = [message(each) for each in changes]
    if any(each.content.HasField("recall") for each in edits):
        return told([original], changes)
    found = [message(original)]
    for edit in edits:
        version = message(original)
        _edit(version, edit)
        found.append(version)
    return found


def _as_of(read: message_pb2.Message, changes: Sequence[message_pb2.Message]) -> message_pb2.Message:
    """Apply the changes of a message to it. An edit that counts no more keeps no words."""
    recall = next((each for each in changes if each.content.HasField("recall")), None)
    edit = next((each for each in reversed(changes) if each.content.HasField("edit")), None)
    if read.content.HasField("edit"):
        if recall is not None or (edit is not None and edit.seq != read.seq):
            read.content.edit.ClearField("text")
            read.content.ClearField("fallback_text")
    elif read.content.HasField("recall"):
        pass
    elif recall is not None:
        read.ClearField("content")
        read.content.fallback_text = recall.content.fallback_text
        read.recalled_at.CopyFrom(recall.sent_at)
    elif edit is not None:
        _edit(read, edit)
    return read


def _edit(read: message_pb2.Message, edit: message_pb2.Message) -> None:
    read.content.text.CopyFrom(edit.content.edit.text)
    read.edited_at.CopyFrom(edit.sent_at)
