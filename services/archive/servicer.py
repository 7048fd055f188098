"""ArchiveService on the wire."""

from __future__ import annotations

import base64
import binascii
from typing import TypeAlias, TypeVar

import grpc.aio
from octopus.archive.v1 import archive_service_pb2 as pb
from octopus.archive.v1 import archive_service_pb2_grpc
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_service_pb2, session_service_pb2_grpc

from mesh.rpc import metadata, principal
from mesh.rpc.principal import Principal
from mesh.stores.postgres import Database
from services.archive import domain, entries
from services.archive.store import ArchiveStore

_PAGE_SIZE = 50

Q = TypeVar("Q")
R = TypeVar("R")
Context: TypeAlias = "grpc.aio.ServicerContext[Q, R]"


class ArchiveServicer(archive_service_pb2_grpc.ArchiveServiceServicer):
    """Reads history for those who may. The contract lets in shoppers, staff, and partners with the scope chat.read."""

    def __init__(
        self, *, db: Database, store: ArchiveStore, sessions: session_service_pb2_grpc.SessionServiceStub
    ) -> None:
        self._db = db
        self._store = store
        self._sessions = sessions

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context[pb.ListMessagesRequest, pb.ListMessagesResponse]
    ) -> pb.ListMessagesResponse:
        """Return a page of a session's messages to whoever may see the session."""
        reader = principal.current()
        limit = request.page_size or _PAGE_SIZE
        before = domain.first_before(request.before_seq, _position(request.page_token))
        await self._check_visible(reader, request.session_id)
        async with self._db.tenant(reader.tenant_id) as conn:
            found = await self._store.page(
                conn, reader.tenant_id, request.session_id, before_seq=before, limit=limit + 1
            )
        page = found[:limit]
        following = _page_token(page[-1].seq) if len(found) > limit else ""
        return pb.ListMessagesResponse(messages=[entries.message(kept) for kept in page], next_page_token=following)

    async def FindMessage(
        self, request: pb.FindMessageRequest, context: Context[pb.FindMessageRequest, pb.FindMessageResponse]
    ) -> pb.FindMessageResponse:
        """Return the message that an author's side knows by its own id, or an empty response."""
        tenant_id = principal.current().tenant_id
        async with self._db.tenant(tenant_id) as conn:
            found = await self._store.find(
                conn,
                tenant_id,
                request.session_id,
                sender_kind=request.sender_kind,
                client_message_id=request.client_message_id,
            )
        return pb.FindMessageResponse(message=None if found is None else entries.message(found))

    async def _check_visible(self, reader: Principal, session_id: int) -> None:
        """Ask the session service, which has the one rule of who sees a session; its NOT_FOUND is ours."""
        # A partner sees what the shop sees, but is nobody to the session service.
        is_partner = reader.has(options_pb2.ROLE_PARTNER)
        caller = metadata.as_service(reader.tenant_id) if is_partner else metadata.on_behalf(reader)
        await self._sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=session_id), metadata=caller)


def _page_token(before_seq: int) -> str:
    return base64.urlsafe_b64encode(before_seq.to_bytes(8)).rstrip(b"=").decode()


def _position(token: str) -> int:
    """Return the `seq` that a page is below; 0 for the first page."""
    if not token:
        return 0
    try:
        raw = base64.b64decode(token + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 8 or raw[0] > 0x7F:
        raise domain.Invalid("page_token", "this is not a page token of ListMessages; start without one")
    return int.from_bytes(raw)
