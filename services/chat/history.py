"""Asks the archive for messages that the log no longer has."""

from __future__ import annotations

import grpc
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import message_pb2

from mesh.rpc.metadata import as_service

# Seconds; the author of a message waits for this.
_TIMEOUT_S = 3.0


class HistoryClient:
    """Messages as the archive has them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = archive_service_pb2_grpc.ArchiveServiceStub(channel)

    async def find(
        self, tenant_id: str, session_id: int, sender_kind: message_pb2.SenderKind.ValueType, client_message_id: str
    ) -> message_pb2.Message | None:
        """Return the message with a client message id of an author's side, None without one. Raise `Refused`."""
        response = await self._stub.FindMessage(
            archive_service_pb2.FindMessageRequest(
                session_id=session_id, sender_kind=sender_kind, client_message_id=client_message_id
            ),
            metadata=as_service(tenant_id),
            timeout=_TIMEOUT_S,
        )
        return response.message if response.HasField("message") else None

    async def at(self, tenant_id: str, session_id: int, seq: int) -> message_pb2.Message | None:
        """Return the message at a position of a session, None without one. Raise `Refused`."""
        response = await self._stub.GetMessage(
            archive_service_pb2.GetMessageRequest(session_id=session_id, seq=seq),
            metadata=as_service(tenant_id),
            timeout=_TIMEOUT_S,
        )
        return response.message if response.HasField("message") else None
