"""CannedReplyService on the wire."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import grpc.aio
from octopus.errors.v1.errors_pb2 import REASON_INVALID_ARGUMENT
from octopus.knowledge.v1 import canned_reply_pb2, canned_reply_service_pb2_grpc
from octopus.knowledge.v1 import canned_reply_service_pb2 as pb
from octopus.options.v1.options_pb2 import ROLE_ADMIN, ROLE_SUPERVISOR

from mesh.errors import Refused
from mesh.rpc import principal
from mesh.rpc.paging import Paging
from mesh.rpc.timestamps import to_wire
from services.knowledge.canned.domain import CannedReply, Content, Editor
from services.knowledge.canned.store import CannedReplies

_REPLIES: Final = Paging("ListCannedReplies", (0,))

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CannedReplyServicer(canned_reply_service_pb2_grpc.CannedReplyServiceServicer):
    """Serve CannedReplyService."""

    def __init__(self, replies: CannedReplies) -> None:
        self._replies = replies

    async def ListCannedReplies(
        self, request: pb.ListCannedRepliesRequest, context: Context
    ) -> pb.ListCannedRepliesResponse:
        """Return a page of the shared ones and the caller's own."""
        size, (after_id,) = _REPLIES.size(request.page_size), _REPLIES.position(request.page_token)
        found = await self._replies.page(_editor(), after_id=after_id, limit=size + 1)
        page, following = _REPLIES.page(found, size, lambda reply: (reply.id,))
        return pb.ListCannedRepliesResponse(canned_replies=map(_to_wire, page), next_page_token=following)

    async def CreateCannedReply(
        self, request: pb.CreateCannedReplyRequest, context: Context
    ) -> pb.CreateCannedReplyResponse:
        """Add a canned reply, or return the one that the same request id made."""
        shared = request.scope == canned_reply_pb2.CANNED_REPLY_SCOPE_SHARED
        reply = await self._replies.create(_editor(), request.request_id, _checked(request.content), shared=shared)
        return pb.CreateCannedReplyResponse(canned_reply=_to_wire(reply))

    async def UpdateCannedReply(
        self, request: pb.UpdateCannedReplyRequest, context: Context
    ) -> pb.UpdateCannedReplyResponse:
        """Replace the content of a canned reply that has the version the caller read."""
        content = _checked(request.content)
        reply = await self._replies.update(_editor(), request.canned_reply_id, request.version, content)
        return pb.UpdateCannedReplyResponse(canned_reply=_to_wire(reply))

    async def DeleteCannedReply(
        self, request: pb.DeleteCannedReplyRequest, context: Context
    ) -> pb.DeleteCannedReplyResponse:
        """Delete a canned reply."""
        await self._replies.delete(_editor(), request.canned_reply_id)
        return pb.DeleteCannedReplyResponse()


def _editor() -> Editor:
    caller = principal.current()
    return Editor(
        tenant_id=caller.tenant_id, user_id=caller.user_id, supervisor=caller.has(ROLE_SUPERVISOR, ROLE_ADMIN)
    )


def _checked(content: canned_reply_pb2.CannedReplyContent) -> Content:
    read = Content(shortcut=content.shortcut, category=content.category.strip(), text=content.text.strip())
    if problems := read.problems():
        violations = [(f"content.{field}", problem) for field, problem in problems]
        description = "; ".join(f"{field} {problem}" for field, problem in violations)
        raise Refused(REASON_INVALID_ARGUMENT, description, violations=violations)
    return read


def _to_wire(reply: CannedReply) -> canned_reply_pb2.CannedReply:
    shared = reply.owner_id == 0
    return canned_reply_pb2.CannedReply(
        id=reply.id,
        tenant_id=reply.tenant_id,
        scope=canned_reply_pb2.CANNED_REPLY_SCOPE_SHARED if shared else canned_reply_pb2.CANNED_REPLY_SCOPE_PERSONAL,
        content=canned_reply_pb2.CannedReplyContent(
            shortcut=reply.content.shortcut, category=reply.content.category, text=reply.content.text
        ),
        version=reply.version,
        updated_at=to_wire(reply.updated_at),
    )
