"""KnowledgeService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, TypeAlias, TypeVar

import grpc.aio
from octopus.errors.v1 import errors_pb2
from octopus.knowledge.v1 import faq_pb2, knowledge_service_pb2_grpc
from octopus.knowledge.v1 import knowledge_service_pb2 as pb

from mesh.errors import Refused
from mesh.rpc import principal
from mesh.rpc.paging import Paging
from services.knowledge import domain, wire
from services.knowledge.entries import Entries
from services.knowledge.import_parser import Csv, JsonLines, Reader
from services.knowledge.importing import Import, Progress

_FAQS: Final = Paging("ListFaqs", (0,))
_HITS: Final = 5

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
Context: TypeAlias = "grpc.aio.ServicerContext[_Request, _Response]"


class KnowledgeServicer(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
    """Serve KnowledgeService."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    async def CreateFaq(
        self, request: pb.CreateFaqRequest, context: Context[pb.CreateFaqRequest, pb.CreateFaqResponse]
    ) -> pb.CreateFaqResponse:
        """Add an entry, or return the one that the same request id made."""
        tenant_id = principal.current().tenant_id
        faq = await self._entries.create(tenant_id, request.request_id, _checked(request.content))
        return pb.CreateFaqResponse(faq=wire.to_faq(faq))

    async def GetFaq(
        self, request: pb.GetFaqRequest, context: Context[pb.GetFaqRequest, pb.GetFaqResponse]
    ) -> pb.GetFaqResponse:
        """Return one entry."""
        faq = await self._entries.get(principal.current().tenant_id, request.faq_id)
        return pb.GetFaqResponse(faq=wire.to_faq(faq))

    async def ListFaqs(
        self, request: pb.ListFaqsRequest, context: Context[pb.ListFaqsRequest, pb.ListFaqsResponse]
    ) -> pb.ListFaqsResponse:
        """Return a page of entries, oldest first."""
        size, (after_id,) = _FAQS.size(request.page_size), _FAQS.position(request.page_token)
        found = await self._entries.page(
            principal.current().tenant_id,
            after_id=after_id,
            limit=size + 1,
            category=request.category,
            include_disabled=request.include_disabled,
        )
        faqs, following = _FAQS.page(found, size, lambda faq: (faq.id,))
        return pb.ListFaqsResponse(faqs=map(wire.to_faq, faqs), next_page_token=following)

    async def UpdateFaq(
        self, request: pb.UpdateFaqRequest, context: Context[pb.UpdateFaqRequest, pb.UpdateFaqResponse]
    ) -> pb.UpdateFaqResponse:
        """Replace the content of an entry that has the version the caller read."""
        tenant_id = principal.current().tenant_id
        faq = await self._entries.update(tenant_id, request.faq_id, request.version, _checked(request.content))
        return pb.UpdateFaqResponse(faq=wire.to_faq(faq))

    async def DisableFaq(
        self, request: pb.DisableFaqRequest, context: Context[pb.DisableFaqRequest, pb.DisableFaqResponse]
    ) -> pb.DisableFaqResponse:
        """Take an entry out of searches, or put it back."""
        tenant_id = principal.current().tenant_id
        faq = await self._entries.set_disabled(tenant_id, request.faq_id, disabled=not request.enable)
        return pb.DisableFaqResponse(faq=wire.to_faq(faq))

    async def ImportFaqs(
        self,
        request_iterator: AsyncIterator[pb.ImportFaqsRequest],
        context: Context[pb.ImportFaqsRequest, pb.ImportFaqsResponse],
    ) -> AsyncIterator[pb.ImportFaqsResponse]:
        """Store a file as it arrives, and report the progress after each batch."""
        first = await anext(request_iterator, None)
        reader = _reader(first.format if first else pb.IMPORT_FORMAT_UNSPECIFIED)
        work = Import(entries=self._entries, tenant_id=principal.current().tenant_id, reader=reader)
        async for progress in work.run(_pieces(first, request_iterator)):
            yield _progress(progress)

    async def SearchFaqs(
        self, request: pb.SearchFaqsRequest, context: Context[pb.SearchFaqsRequest, pb.SearchFaqsResponse]
    ) -> pb.SearchFaqsResponse:
        """Return the enabled entries nearest in meaning to the query."""
        hits = await self._entries.search(principal.current().tenant_id, request.query, request.limit or _HITS)
        return pb.SearchFaqsResponse(hits=map(wire.to_hit, hits))


def _checked(content: faq_pb2.FaqContent) -> domain.Content:
    tidied = wire.from_content(content)
    if problems := tidied.problems():
        violations = [(f"content.{field}", problem) for field, problem in problems]
        description = "; ".join(f"{field} {problem}" for field, problem in violations)
        raise Refused(errors_pb2.REASON_INVALID_ARGUMENT, description, violations=violations)
    return tidied


def _reader(file_format: pb.ImportFormat.ValueType) -> Reader:
    match file_format:
        case pb.IMPORT_FORMAT_CSV:
            return Csv()
        case pb.IMPORT_FORMAT_JSONL:
            return JsonLines()
    raise domain.FileRefused("the first piece names no format; set `format` to CSV or JSONL")


async def _pieces(
    first: pb.ImportFaqsRequest | None, rest: AsyncIterator[pb.ImportFaqsRequest]
) -> AsyncIterator[bytes]:
    if first is not None:
        yield first.data
    async for piece in rest:
        yield piece.data


def _progress(progress: Progress) -> pb.ImportFaqsResponse:
    return pb.ImportFaqsResponse(
        processed_bytes=progress.processed_bytes,
        created=progress.created,
        updated=progress.updated,
        unchanged=progress.unchanged,
        refused=progress.refused,
        bad_lines=[pb.BadLine(line=bad.line, field=bad.field, problem=bad.problem) for bad in progress.bad_lines],
        finished=progress.finished,
    )
