"""ArchiveService on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

import grpc.aio
from octopus.archive.v1 import archive_service_pb2 as pb
from octopus.archive.v1 import archive_service_pb2_grpc
from octopus.chat.v1 import message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_service_pb2, session_service_pb2_grpc

from mesh.errors import Refused
from mesh.rpc import metadata, principal
from mesh.rpc.kinds import STAFF
from mesh.rpc.paging import Paging
from mesh.rpc.principal import Principal
from mesh.stores.postgres import Connection, Database
from services.archive import domain, entries
from services.archive.store import ArchiveStore

_MESSAGES: Final = Paging("ListMessages", (0,))
# The original and the newest edits that one answer has.
_MOST_VERSIONS: Final = 100

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
                conn,
                reader.tenant_id,
                request.session_id,
                before_seq=before,
                limit=size + 1,
                internal=reader.has(*STAFF),
            )
            page, following = _MESSAGES.page(found, size, lambda kept: (kept.seq,))
            messages = await self._told(conn, reader.tenant_id, request.session_id, page)
        return pb.ListMessagesResponse(messages=messages, next_page_token=following)

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: Context[pb.ListVersionsRequest, pb.ListVersionsResponse]
    ) -> pb.ListVersionsResponse:
        """Return what a message said before each of its edits and says now. NOT_FOUND unless it is a text."""
        reader = principal.current()
        await self._check_visible(reader, request.session_id)
        async with self._db.tenant(reader.tenant_id) as conn:
            original = await self._store.at(conn, reader.tenant_id, request.session_id, request.seq)
            if original is None or not entries.message(original).content.HasField("text"):
                raise Refused(errors_pb2.REASON_NOT_FOUND, "there is no text at this position of the session")
            changes = await self._store.changes(conn, reader.tenant_id, request.session_id, [request.seq])
        versions = entries.versions(original, changes)
        return pb.ListVersionsResponse(versions=[versions[0], *versions[1:][1 - _MOST_VERSIONS :]])

    async def GetMessage(
        self, request: pb.GetMessageRequest, context: Context[pb.GetMessageRequest, pb.GetMessageResponse]
    ) -> pb.GetMessageResponse:
        """Return the message at a position as it reads now, or an empty response."""
        tenant_id = principal.current().tenant_id
        async with self._db.tenant(tenant_id) as conn:
            found = await self._store.at(conn, tenant_id, request.session_id, request.seq)
            if found is None:
                return pb.GetMessageResponse()
            (message,) = await self._told(conn, tenant_id, request.session_id, [found])
        return pb.GetMessageResponse(message=message)

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
            if found is None:
                return pb.FindMessageResponse()
            (message,) = await self._told(conn, tenant_id, request.session_id, [found])
        return pb.FindMessageResponse(message=message)

    async def _told(
        self, conn: Connection, tenant_id: str, session_id: int, kept: Sequence[domain.Archived]
    ) -> list[message_pb2.Message]:
        """Return messages as they read now, with their edits and recalls applied."""
        changes = await self._store.changes(conn, tenant_id, session_id, domain.changeable(kept)) if kept else []
        return entries.told(kept, changes)

    async def _check_visible(self, reader: Principal, session_id: int) -> None:
        """Ask the session service, which has the one rule of who sees a session; its NOT_FOUND is ours."""
        # A partner sees every session of the shop, and the session service does not serve partners.
        is_partner = reader.has(options_pb2.ROLE_PARTNER)
        caller = metadata.as_service(reader.tenant_id) if is_partner else metadata.on_behalf(reader)
        await self._sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=session_id), metadata=caller)
