"""The service as others meet it: over mutual TLS, with tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from octopus.errors.v1 import errors_pb2
from octopus.knowledge.v1 import faq_pb2
from octopus.knowledge.v1 import knowledge_service_pb2 as pb
from octopus.knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub

from mesh.bus import connect
from mesh.errors import Refused, from_rpc_error
from mesh.identity.files import Identity
from mesh.process.member import Member
from mesh.rpc.metadata import Metadata, as_service, with_token
from mesh.testing import Platform
from mesh.testing.ports import free_port
from mesh.testing.rpc import Keys, dialling
from services.knowledge.app import app
from services.knowledge.config import KnowledgeConfig

pytestmark = pytest.mark.service

SHIP = faq_pb2.FaqContent(
    question="多久发货？", answer="24 小时内。", similar_questions=["什么时候发货"], category="发货", locale="zh-CN"
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a test works with."""

    edge: KnowledgeServiceStub
    bot: KnowledgeServiceStub
    keys: Keys

    def admin(self, tenant: str) -> Metadata:
        return with_token(self.keys.token(tenant, 5, "KNOWLEDGE_ADMIN"))

    async def create(self, tenant: str, content: faq_pb2.FaqContent, request_id: str = "request-1") -> faq_pb2.Faq:
        request = pb.CreateFaqRequest(request_id=request_id, content=content)
        return (await self.edge.CreateFaq(request, metadata=self.admin(tenant))).faq

    async def import_file(
        self, tenant: str, pieces: Iterable[pb.ImportFaqsRequest], **claims: Any
    ) -> list[pb.ImportFaqsResponse]:
        metadata = with_token(self.keys.token(tenant, 5, "KNOWLEDGE_ADMIN", **claims))
        try:
            return [each async for each in self.edge.ImportFaqs(iter_async(pieces), metadata=metadata, timeout=60)]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


async def iter_async(pieces: Iterable[pb.ImportFaqsRequest]) -> AsyncIterator[pb.ImportFaqsRequest]:
    for piece in pieces:
        yield piece


@pytest.fixture(scope="module")
async def running(migrated: Platform) -> AsyncIterator[Service]:
    keys = Keys()
    async with AsyncExitStack() as stack:
        user = Identity(migrated.identity, "user")
        bus = await stack.enter_async_context(connect(migrated.nats_url, "user", tls=user.client_context))
        await bus.kv("keys").put("jwks", keys.jwks().encode())
        port = free_port()
        config = migrated.config("knowledge", KnowledgeConfig, port=port)
        member = await stack.enter_async_context(Member(config))
        await stack.enter_async_context(app(member, config))
        stack.push_async_callback(member.finish)
        edge, bot = [
            KnowledgeServiceStub(
                await stack.enter_async_context(dialling(migrated.identity, caller, "knowledge", f"127.0.0.1:{port}"))
            )
            for caller in ("edge", "bot")
        ]
        yield Service(edge=edge, bot=bot, keys=keys)


async def refusal(call: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value


async def test_the_life_of_an_entry(running: Service, tenant: str) -> None:
    admin = running.admin(tenant)
    created = await running.create(tenant, SHIP)
    assert (created.content, created.version, created.tenant_id, created.disabled) == (SHIP, 1, tenant, False)
    assert created.id > 1 << 40
    assert await running.create(tenant, SHIP) == created
    assert (await running.edge.GetFaq(pb.GetFaqRequest(faq_id=created.id), metadata=admin)).faq == created

    content = faq_pb2.FaqContent(question="几天发货？", answer="48 小时内。", locale="zh-CN")
    request = pb.UpdateFaqRequest(faq_id=created.id, version=1, content=content)
    updated = (await running.edge.UpdateFaq(request, metadata=admin)).faq
    assert (updated.version, updated.content) == (2, content)
    assert updated.updated_at.ToNanoseconds() > created.updated_at.ToNanoseconds()
    conflict = await refusal(running.edge.UpdateFaq(request, metadata=admin))
    assert conflict.reason == errors_pb2.REASON_VERSION_CONFLICT

    disabled = (await running.edge.DisableFaq(pb.DisableFaqRequest(faq_id=created.id), metadata=admin)).faq
    assert disabled.disabled
    search = pb.SearchFaqsRequest(query="几天发货")
    assert not (await running.bot.SearchFaqs(search, metadata=as_service(tenant))).hits
    await running.edge.DisableFaq(pb.DisableFaqRequest(faq_id=created.id, enable=True), metadata=admin)
    (hit,) = (await running.bot.SearchFaqs(search, metadata=as_service(tenant))).hits
    assert hit.faq.content == content
    assert 0.9 < hit.score <= 1


async def test_pages_lead_through_all_entries(running: Service, tenant: str) -> None:
    admin = running.admin(tenant)
    for number in range(5):
        content = faq_pb2.FaqContent(question=f"问题{number}", answer="答", locale="zh-CN")
        await running.create(tenant, content, f"request-{number}")
    seen, token, pages = [], "", 0
    while True:
        request = pb.ListFaqsRequest(page_size=2, page_token=token)
        page = await running.edge.ListFaqs(request, metadata=admin)
        seen += [faq.content.question for faq in page.faqs]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert (seen, pages) == ([f"问题{number}" for number in range(5)], 3)
    exact = await running.edge.ListFaqs(pb.ListFaqsRequest(page_size=5), metadata=admin)
    assert (len(exact.faqs), exact.next_page_token) == (5, "")
    wrong = await refusal(running.edge.ListFaqs(pb.ListFaqsRequest(page_token="x"), metadata=admin))
    assert wrong.reason == errors_pb2.REASON_INVALID_ARGUMENT


async def test_refusals_say_why_and_where(running: Service, tenant: str) -> None:
    blank = faq_pb2.FaqContent(question="  ", answer="a", locale="en")
    refused = await refusal(running.create(tenant, blank))
    assert refused.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert [field for field, _ in refused.violations] == ["content.question"]
    nul = faq_pb2.FaqContent(question="a\0b", answer="a", locale="en")
    assert (await refusal(running.create(tenant, nul))).reason == errors_pb2.REASON_INVALID_ARGUMENT
    await running.create(tenant, SHIP)
    twice = await refusal(running.create(tenant, SHIP, "request-2"))
    assert twice.reason == errors_pb2.REASON_ALREADY_EXISTS
    missing = await refusal(running.edge.GetFaq(pb.GetFaqRequest(faq_id=1), metadata=running.admin(tenant)))
    assert missing.reason == errors_pb2.REASON_NOT_FOUND


async def test_another_shop_and_other_roles_get_nothing(running: Service, tenant: str) -> None:
    created = await running.create(tenant, SHIP)
    other = running.admin(f"{tenant}-other")
    stolen = await refusal(running.edge.GetFaq(pb.GetFaqRequest(faq_id=created.id), metadata=other))
    assert stolen.reason == errors_pb2.REASON_NOT_FOUND
    assert not (await running.edge.SearchFaqs(pb.SearchFaqsRequest(query="多久发货"), metadata=other)).hits

    customer = with_token(running.keys.token(tenant, 9, "CUSTOMER"))
    refused = await refusal(running.edge.SearchFaqs(pb.SearchFaqsRequest(query="多久发货"), metadata=customer))
    assert refused.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED
    agent = with_token(running.keys.token(tenant, 9, "AGENT"))
    assert (await running.edge.SearchFaqs(pb.SearchFaqsRequest(query="多久发货"), metadata=agent)).hits
    request = pb.CreateFaqRequest(request_id="request-9", content=SHIP)
    refused = await refusal(running.edge.CreateFaq(request, metadata=agent))
    assert refused.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED
    # The bot may search and nothing else.
    refused = await refusal(running.bot.CreateFaq(request, metadata=as_service(tenant)))
    assert refused.reason == errors_pb2.REASON_CALLER_NOT_ALLOWED


async def test_a_file_is_imported_with_progress_and_a_report(running: Service, tenant: str) -> None:
    lines = [json.dumps({"question": f"怎么做第{n}件事", "answer": f"先做{n}"}, ensure_ascii=False) for n in range(30)]
    lines.insert(3, "oops")
    data = "\n".join(lines).encode()
    pieces = [pb.ImportFaqsRequest(format=pb.IMPORT_FORMAT_JSONL, total_bytes=len(data))]
    pieces += [pb.ImportFaqsRequest(data=data[start : start + 500]) for start in range(0, len(data), 500)]
    responses = await running.import_file(tenant, pieces)
    assert len(responses) >= 2
    last = responses[-1]
    assert (last.finished, last.created, last.refused, last.processed_bytes) == (True, 30, 1, len(data))
    assert [(bad.line, bad.field) for each in responses for bad in each.bad_lines] == [(4, "")]
    again = (await running.import_file(tenant, pieces))[-1]
    assert (again.created, again.updated, again.unchanged, again.refused) == (0, 0, 30, 1)


async def test_a_file_in_one_piece_with_its_format_is_a_file_too(running: Service, tenant: str) -> None:
    data = "question,answer\n几点开门,九点\n".encode()
    (last,) = await running.import_file(tenant, [pb.ImportFaqsRequest(format=pb.IMPORT_FORMAT_CSV, data=data)])
    assert (last.finished, last.created) == (True, 1)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [pb.ImportFaqsRequest(data=b"question,answer\n")],
        [pb.ImportFaqsRequest(format=pb.IMPORT_FORMAT_CSV, data=b"frage,antwort\n")],
        [pb.ImportFaqsRequest(format=pb.IMPORT_FORMAT_CSV)],
    ],
)
async def test_a_file_that_cannot_be_read_at_all_is_refused(
    running: Service, tenant: str, pieces: list[pb.ImportFaqsRequest]
) -> None:
    refused = await refusal(running.import_file(tenant, pieces))
    assert refused.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert refused.description
