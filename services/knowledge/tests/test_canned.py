"""Who sees and changes canned replies: the service over mutual TLS, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
from octopus.errors.v1 import errors_pb2 as errors
from octopus.knowledge.v1 import canned_reply_pb2
from octopus.knowledge.v1 import canned_reply_service_pb2 as pb
from octopus.knowledge.v1.canned_reply_service_pb2_grpc import (
    CannedReplyServiceStub,
    add_CannedReplyServiceServicer_to_server,
)

from mesh.errors import Refused
from mesh.process.member import Member
from mesh.rpc.metadata import Metadata, with_token
from mesh.testing import Platform
from mesh.testing.rpc import Keys, dialling, serving
from services.knowledge.canned.servicer import CannedReplyServicer
from services.knowledge.canned.store import CannedReplies

pytestmark = pytest.mark.service

AGENT, COLLEAGUE, SUPERVISOR = 900, 901, 990
PERSONAL = canned_reply_pb2.CANNED_REPLY_SCOPE_PERSONAL
SHARED = canned_reply_pb2.CANNED_REPLY_SCOPE_SHARED


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a test works with."""

    stub: CannedReplyServiceStub
    keys: Keys

    def token(self, tenant: str, user_id: int, role: str = "AGENT") -> Metadata:
        return with_token(self.keys.token(tenant, user_id, role))

    async def create(
        self,
        token: Metadata,
        shortcut: str,
        text: str = "您好，{{customer.name}}",
        *,
        scope: canned_reply_pb2.CannedReplyScope.ValueType = PERSONAL,
        request_id: str = "",
    ) -> canned_reply_pb2.CannedReply:
        content = canned_reply_pb2.CannedReplyContent(shortcut=shortcut, category="问候", text=text)
        request = pb.CreateCannedReplyRequest(
            request_id=request_id or f"request-{shortcut}", scope=scope, content=content
        )
        return (await self.stub.CreateCannedReply(request, metadata=token)).canned_reply

    async def shortcuts(self, token: Metadata, size: int = 0) -> list[str]:
        """Return the shortcuts that somebody sees, through pages of this size."""
        found: list[str] = []
        request = pb.ListCannedRepliesRequest(page_size=size)
        while True:
            page = await self.stub.ListCannedReplies(request, metadata=token)
            found += [reply.content.shortcut for reply in page.canned_replies]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@pytest.fixture(scope="module")
async def running(migrated: Platform) -> AsyncIterator[Service]:
    keys = Keys()
    async with Member(migrated.config("knowledge")) as member:
        ids = await member.ids()
        servicer = CannedReplyServicer(CannedReplies(await member.postgres(), ids.next))
        add = partial(add_CannedReplyServiceServicer_to_server, servicer)
        async with (
            serving(migrated.identity, "knowledge", keys, add) as address,
            dialling(migrated.identity, "edge", "knowledge", address) as channel,
        ):
            yield Service(stub=CannedReplyServiceStub(channel), keys=keys)


async def test_agents_see_what_the_shop_shares_and_their_own(running: Service, tenant: str) -> None:
    agent, colleague = running.token(tenant, AGENT), running.token(tenant, COLLEAGUE)
    supervisor = running.token(tenant, SUPERVISOR, "SUPERVISOR")
    await running.create(supervisor, "hello", scope=SHARED)
    mine = await running.create(agent, "mine")
    await running.create(colleague, "theirs")
    # The same shortcut may be shared and somebody's own at once.
    await running.create(agent, "Hello")
    assert await running.shortcuts(agent) == ["hello", "mine", "Hello"]
    assert await running.shortcuts(agent, size=1) == ["hello", "mine", "Hello"]
    assert await running.shortcuts(colleague) == ["hello", "theirs"]
    assert await running.shortcuts(running.token(f"{tenant}-other", AGENT)) == []
    assert mine.scope == PERSONAL
    assert mine.content.text == "您好，{{customer.name}}"


async def test_agents_change_their_own_and_nothing_else(running: Service, tenant: str) -> None:
    agent, colleague = running.token(tenant, AGENT), running.token(tenant, COLLEAGUE)
    admin = running.token(tenant, SUPERVISOR, "ADMIN")
    shared = await running.create(admin, "hello", scope=SHARED)
    mine = await running.create(agent, "mine")
    with pytest.raises(Refused) as refused:
        await running.create(agent, "new", scope=SHARED)
    assert refused.value.reason == errors.REASON_ROLE_NOT_ALLOWED
    for reply, token, reason in (
        (shared, agent, errors.REASON_ROLE_NOT_ALLOWED),
        (mine, colleague, errors.REASON_NOT_FOUND),
        (mine, admin, errors.REASON_NOT_FOUND),
    ):
        change = pb.UpdateCannedReplyRequest(canned_reply_id=reply.id, version=1, content=reply.content)
        with pytest.raises(Refused) as refused:
            await running.stub.UpdateCannedReply(change, metadata=token)
        assert refused.value.reason == reason
    with pytest.raises(Refused, match="supervisors and administrators"):
        await running.stub.DeleteCannedReply(pb.DeleteCannedReplyRequest(canned_reply_id=shared.id), metadata=agent)
    await running.stub.DeleteCannedReply(pb.DeleteCannedReplyRequest(canned_reply_id=mine.id), metadata=colleague)
    assert await running.shortcuts(agent) == ["hello", "mine"]
    for _ in range(2):
        await running.stub.DeleteCannedReply(pb.DeleteCannedReplyRequest(canned_reply_id=mine.id), metadata=agent)
    await running.stub.DeleteCannedReply(pb.DeleteCannedReplyRequest(canned_reply_id=shared.id), metadata=admin)
    assert await running.shortcuts(agent) == []


async def test_creating_is_safe_to_repeat_and_a_shortcut_is_taken_once(running: Service, tenant: str) -> None:
    agent, colleague = running.token(tenant, AGENT), running.token(tenant, COLLEAGUE)
    made = await asyncio.gather(*(running.create(agent, "ship", request_id="the-same-one") for _ in range(5)))
    assert len({reply.id for reply in made}) == 1
    with pytest.raises(Refused) as refused:
        await running.create(agent, "SHIP", request_id="another-one")
    assert refused.value.reason == errors.REASON_ALREADY_EXISTS
    # Somebody else's request ids are their own.
    await running.create(colleague, "other", request_id="the-same-one")
    assert await running.shortcuts(colleague) == ["other"]


async def test_a_change_of_what_was_changed_meanwhile_is_refused(running: Service, tenant: str) -> None:
    agent = running.token(tenant, AGENT)
    first, second = await running.create(agent, "one"), await running.create(agent, "two")
    content = canned_reply_pb2.CannedReplyContent(shortcut="uno", text="{{shop.name}} 感谢您")
    change = pb.UpdateCannedReplyRequest(canned_reply_id=first.id, version=1, content=content)
    changed = (await running.stub.UpdateCannedReply(change, metadata=agent)).canned_reply
    assert (changed.version, changed.content) == (2, content)
    with pytest.raises(Refused) as refused:
        await running.stub.UpdateCannedReply(change, metadata=agent)
    assert refused.value.reason == errors.REASON_VERSION_CONFLICT
    taken = pb.UpdateCannedReplyRequest(canned_reply_id=second.id, version=1, content=content)
    with pytest.raises(Refused) as refused:
        await running.stub.UpdateCannedReply(taken, metadata=agent)
    assert refused.value.reason == errors.REASON_ALREADY_EXISTS


@pytest.mark.parametrize(
    ("shortcut", "text"), [("", "a"), ("a b", "a"), ("/a", "a"), ("a" * 33, "a"), ("a", " "), ("a", "{{customer}}")]
)
async def test_what_cannot_be_used_is_refused_with_the_field(
    running: Service, tenant: str, shortcut: str, text: str
) -> None:
    with pytest.raises(Refused) as refused:
        await running.create(running.token(tenant, AGENT), shortcut, text, request_id="request-1")
    assert refused.value.reason == errors.REASON_INVALID_ARGUMENT
    assert refused.value.violations
    customer = running.token(tenant, AGENT, "CUSTOMER")
    with pytest.raises(Refused) as refused:
        await running.create(customer, "a", "a")
    assert refused.value.reason == errors.REASON_ROLE_NOT_ALLOWED
