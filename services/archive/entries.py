"""Log entries as they are kept, and back."""

from __future__ import annotations

from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.bus import Delivery, Poison
from mesh.bus.earlier import with_content
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
