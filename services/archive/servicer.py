"""ArchiveService on the wire."""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

import grpc.aio
from octopus.archive.v1 import archive_service_pb2 as pb
from octopus.archive.v1 import archive_service_pb2_grpc
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_service_pb2, session_service_pb2_grpc

from mesh.rpc import metadata, principal
from mesh.rpc.paging import Paging
from mesh.rpc.principal import Principal
from mesh.stores.postgres import Database
from services.archive import domain, entries
from services.archive.store import ArchiveStore

_MESSAGES: Final = Paging("ListMessages", (0,))

Q = TypeVar("Q")
R = TypeVar("R")
Context: TypeAlias = "grpc.aio.ServicerContext[Q, R]"


class ArchiveServicer(archive_service_pb2_grpc.ArchiveServiceServicer):
    """Read history. The contract admits shoppers, staff, and partners with the scope chat.read."""

    def __init__(
        self, *, db: Database, store: ArchiveStore, sessions: session_service_pb2_grpc.SessionServiceStub
    ) -> None:
        self._db = db
        self._store = store
        self._sessions = sessions

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context[pb.ListMessagesRequest, pb.ListMessagesResponse]
    ) -> pb.ListMessagesResponse:
        """Return a page of a session's messages. NOT_FOUND unless the caller may see the session."""
        reader = principal.current()
        size, (position,) = _MESSAGES.size(request.page_size), _MESSAGES.position(request.page_token)
        before = domain.first_before(request.before_seq, position)
        await self._check_visible(reader, request.session_id)
        async with self._db.tenant(reader.tenant_id) as conn:
            found = await self._store.page(
                conn, reader.tenant_id, request.session_id, before_seq=before, limit=size + 1
            )
        page, following = _MESSAGES.page(found, size, lambda kept: (kept.seq,))
        return pb.ListMessagesResponse(messages=[entries.message(kept) for kept in page], next_page_token=following)

    async def FindMessage(
        self, request: pb.FindMessageRequest, context: Context[pb.FindMessageRequest, pb.FindMessageResponse]
    ) -> pb.FindMessageResponse:
        """Return the message with a client message id of an author's side, or an empty response."""
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
        # A partner sees every session of the shop, and the session service does not serve partners.
        is_partner = reader.has(options_pb2.ROLE_PARTNER)
        caller = metadata.as_service(reader.tenant_id) if is_partner else metadata.on_behalf(reader)
        await self._sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=session_id), metadata=caller)
