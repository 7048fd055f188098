"""The user service behind its server: what the contract promises to callers, and what events tell."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass

import grpc.aio
import pytest
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2
from octopus.user.v1 import auth_service_pb2, user_events_pb2, user_pb2, user_service_pb2, user_service_pb2_grpc

from mesh.bus import connect, decode
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.rpc.metadata import CLIENT_ADDRESS, Metadata, as_service, with_token
from mesh.testing import Platform
from mesh.testing.rpc import dialling
from services.user import domain
from services.user.domain import Role
from services.user.tests.conftest import PASSWORD, SECRET, Served, Shop, open_shop, until

pytestmark = pytest.mark.service


@dataclass(frozen=True)
class Desk:
    """A shop with an administrator and an agent who are logged in."""

    shop: Shop
    served: Served
    admin: Metadata
    agent: Metadata
    agent_id: int

    async def log_in(self, login: str) -> auth_service_pb2.LogInResponse:
        request = auth_service_pb2.LogInRequest(tenant_id=self.shop.tenant_id, login=login, password=PASSWORD)
        return await self.served.auth.LogIn(request)

    def create(self, external_id: str = "xiaohong") -> user_service_pb2.CreateUserRequest:
        return user_service_pb2.CreateUserRequest(
            request_id=uuid.uuid4().hex,
            kind=user_pb2.USER_KIND_STAFF,
            external_id=external_id,
            display_name="小红",
            roles=[options_pb2.ROLE_AGENT],
            password=PASSWORD,
            capacity=3,
        )

    async def shopper(self, customer: str = "") -> auth_service_pb2.IdentifyShopperResponse:
        request = auth_service_pb2.IdentifyShopperRequest(tenant_id=self.shop.tenant_id, locale="zh-CN")
        if customer:
            stamp = int(time.time())
            text = domain.identity_text(self.shop.tenant_id, customer, "小明", stamp)
            request.identity.customer_id = customer
            request.identity.display_name = "小明"
            request.identity.signed_at_unix = stamp
            request.identity.signature = domain.sign_identity(SECRET, text)
        return await self.served.auth.IdentifyShopper(request)


@pytest.fixture
async def desk(served: Served) -> Desk:
    shop = await open_shop(served.parts)
    await shop.staff("admin", Role.ADMIN, name="店长")
    agent = await shop.staff("xiaolin")
    tokens = []
    for login in ("admin", "xiaolin"):
        request = auth_service_pb2.LogInRequest(tenant_id=shop.tenant_id, login=login, password=PASSWORD)
        tokens.append(with_token((await served.auth.LogIn(request)).tokens.access_token))
    return Desk(shop, served, tokens[0], tokens[1], agent.id)


async def refusal(call: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value


async def test_a_token_of_the_service_opens_the_service(desk: Desk) -> None:
    answer = await desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=desk.agent)
    me = answer.user
    assert (answer.shop_name_zh, answer.shop_name_en) == ("试衣间", "Fitting room")
    assert (me.id, me.display_name, me.kind) == (desk.agent_id, "小林", user_pb2.USER_KIND_STAFF)
    assert list(me.roles) == [options_pb2.ROLE_AGENT]


async def test_an_administrator_creates_a_user_who_logs_in(desk: Desk) -> None:
    request = desk.create()
    made = (await desk.served.users.CreateUser(request, metadata=desk.admin)).user
    again = (await desk.served.users.CreateUser(request, metadata=desk.admin)).user
    assert again == made
    assert (made.external_id, made.capacity, made.tenant_id) == ("xiaohong", 3, desk.shop.tenant_id)
    assert (await desk.log_in("xiaohong")).user.id == made.id


async def test_a_taken_name_is_told(desk: Desk) -> None:
    await desk.served.users.CreateUser(desk.create(), metadata=desk.admin)
    refused = await refusal(desk.served.users.CreateUser(desk.create(), metadata=desk.admin))
    assert refused.reason == errors_pb2.REASON_ALREADY_EXISTS


async def test_only_an_administrator_creates_users(desk: Desk) -> None:
    refused = await refusal(desk.served.users.CreateUser(desk.create(), metadata=desk.agent))
    assert refused.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_roles_that_do_not_fit_name_the_field(desk: Desk) -> None:
    request = desk.create()
    request.roles[:] = [options_pb2.ROLE_PARTNER]
    refused = await refusal(desk.served.users.CreateUser(request, metadata=desk.admin))
    assert refused.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert [field for field, _ in refused.violations] == ["roles"]


async def test_the_phone_is_masked_for_everyone_but_its_owner(desk: Desk) -> None:
    update = user_service_pb2.UpdateUserRequest(user_id=desk.agent_id, phone="+8613812345678")
    changed = (await desk.served.users.UpdateUser(update, metadata=desk.admin)).user
    seen = (
        await desk.served.users.GetUser(user_service_pb2.GetUserRequest(user_id=desk.agent_id), metadata=desk.admin)
    ).user
    own = (await desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=desk.agent)).user
    assert (changed.phone, seen.phone, own.phone) == ("**********5678", "**********5678", "+8613812345678")


async def test_another_shops_user_is_not_found(desk: Desk) -> None:
    other = await open_shop(desk.served.parts)
    stranger = await other.staff()
    for call in (
        desk.served.users.GetUser(user_service_pb2.GetUserRequest(user_id=stranger.id), metadata=desk.admin),
        desk.served.users.UpdateUser(
            user_service_pb2.UpdateUserRequest(user_id=stranger.id, disabled=True), metadata=desk.admin
        ),
        desk.served.users.SetTags(
            user_service_pb2.SetTagsRequest(user_id=stranger.id, tags=["vip"]), metadata=desk.admin
        ),
    ):
        assert (await refusal(call)).reason == errors_pb2.REASON_NOT_FOUND


async def test_users_are_listed_by_page_and_a_made_up_token_is_refused(desk: Desk) -> None:
    seen: list[str] = []
    request = user_service_pb2.ListUsersRequest(page_size=1)
    while True:
        page = await desk.served.users.ListUsers(request, metadata=desk.admin)
        seen += [user.external_id for user in page.users]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ["admin", "xiaolin"]
    for token in ("1", "AAAAAAAAAAAA", "é", "-----------"):
        refused = await refusal(
            desk.served.users.ListUsers(user_service_pb2.ListUsersRequest(page_token=token), metadata=desk.admin)
        )
        assert refused.reason == errors_pb2.REASON_INVALID_ARGUMENT


async def test_a_wrong_password_and_a_forged_signature_are_unauthenticated(desk: Desk) -> None:
    request = auth_service_pb2.LogInRequest(tenant_id=desk.shop.tenant_id, login="xiaolin", password="wrong")
    assert (await refusal(desk.served.auth.LogIn(request))).reason == errors_pb2.REASON_CREDENTIALS_WRONG
    forged = auth_service_pb2.IdentifyShopperRequest(tenant_id=desk.shop.tenant_id)
    forged.identity.customer_id = "c-1"
    forged.identity.signed_at_unix = int(time.time())
    forged.identity.signature = "0" * 64
    assert (await refusal(desk.served.auth.IdentifyShopper(forged))).reason == errors_pb2.REASON_CREDENTIALS_WRONG


async def test_a_locked_name_says_when_to_try_again(desk: Desk) -> None:
    request = auth_service_pb2.LogInRequest(tenant_id=desk.shop.tenant_id, login="xiaolin", password="wrong")
    here, elsewhere = ((CLIENT_ADDRESS, address) for address in ("203.0.113.7", "203.0.113.8"))
    told = [
        await refusal(desk.served.auth.LogIn(request, metadata=(here,)))
        for _ in range(domain.GUESSES_AT_ADDRESS.free + 8)
    ]
    assert told[0].reason == errors_pb2.REASON_CREDENTIALS_WRONG
    waits = [each.retry_after or 0.0 for each in told if each.reason == errors_pb2.REASON_RATE_LIMITED]
    assert waits
    assert min(waits) > 0
    request.password = PASSWORD
    await desk.served.auth.LogIn(request, metadata=(elsewhere,))


async def test_disabling_ends_refreshing(desk: Desk) -> None:
    tokens = (await desk.log_in("xiaolin")).tokens
    update = user_service_pb2.UpdateUserRequest(user_id=desk.agent_id, disabled=True)
    await desk.served.users.UpdateUser(update, metadata=desk.admin)
    refresh = auth_service_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    assert (await refusal(desk.served.auth.RefreshToken(refresh))).reason == errors_pb2.REASON_TOKEN_INVALID
    assert (await refusal(desk.log_in("xiaolin"))).reason == errors_pb2.REASON_DISABLED


async def test_refresh_and_revoke(desk: Desk) -> None:
    first = (await desk.log_in("xiaolin")).tokens
    refresh = auth_service_pb2.RefreshTokenRequest(refresh_token=first.refresh_token)
    second = (await desk.served.auth.RefreshToken(refresh)).tokens
    assert second.refresh_token != first.refresh_token
    me = await desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=with_token(second.access_token))
    assert me.user.id == desk.agent_id
    revoke = auth_service_pb2.RevokeTokenRequest(refresh_token=second.refresh_token)
    await desk.served.auth.RevokeToken(revoke)
    refresh.refresh_token = second.refresh_token
    assert (await refusal(desk.served.auth.RefreshToken(refresh))).reason == errors_pb2.REASON_TOKEN_INVALID


async def test_a_partner_gets_a_token_with_its_scopes(desk: Desk) -> None:
    request = desk.create("erp-1")
    request.kind = user_pb2.USER_KIND_PARTNER
    request.roles[:] = [options_pb2.ROLE_PARTNER]
    request.scopes[:] = ["chat.read"]
    request.capacity = 0
    await desk.served.users.CreateUser(request, metadata=desk.admin)
    issued = await desk.served.auth.IssueClientToken(
        auth_service_pb2.IssueClientTokenRequest(
            tenant_id=desk.shop.tenant_id, client_id="erp-1", client_secret=PASSWORD
        )
    )
    assert (list(issued.scopes), issued.tokens.refresh_token) == (["chat.read"], "")
    refused = await refusal(
        desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=with_token(issued.tokens.access_token))
    )
    assert refused.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_the_key_set_is_public_to_the_edge(desk: Desk) -> None:
    answer = await desk.served.auth.GetKeySet(auth_service_pb2.GetKeySetRequest())
    [key, *_] = json.loads(answer.jwks)["keys"]
    assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
    assert "d" not in key


async def test_the_session_service_finds_users_and_chat_may_not_ask(desk: Desk, migrated: Platform) -> None:
    request = user_service_pb2.GetUserRequest(user_id=desk.agent_id)
    own = as_service(desk.shop.tenant_id)
    async with dialling(migrated.identity, "session", "user", desk.served.address) as channel:
        found = await user_service_pb2_grpc.UserServiceStub(channel).GetUser(request, metadata=own)
        assert found.user.id == desk.agent_id
        missing = await refusal(
            user_service_pb2_grpc.UserServiceStub(channel).GetUser(request, metadata=as_service("another-shop"))
        )
        assert missing.reason == errors_pb2.REASON_NOT_FOUND
    async with dialling(migrated.identity, "chat", "user", desk.served.address) as channel:
        refused = await refusal(user_service_pb2_grpc.UserServiceStub(channel).GetUser(request, metadata=own))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED


async def test_merging_a_visitor_is_an_event_of_the_customer_and_revokes_the_visitors_tokens(
    desk: Desk, migrated: Platform
) -> None:
    visitor, customer = await desk.shopper(), await desk.shopper("c-1")
    request = user_service_pb2.MergeVisitorRequest(visitor_refresh_token=visitor.tokens.refresh_token)
    mine, as_visitor = (with_token(each.tokens.access_token) for each in (customer, visitor))
    await desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=as_visitor)
    for _ in range(2):
        merged = (await desk.served.users.MergeVisitor(request, metadata=mine)).user
        assert merged.id == customer.user.id

    async def refused() -> bool:
        try:
            await desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=as_visitor)
        except Refused as error:
            return error.reason == errors_pb2.REASON_TOKEN_REVOKED and "become a customer" in str(error)
        return False

    await until(refused)
    await desk.served.users.GetMe(user_service_pb2.GetMeRequest(), metadata=mine)
    update = user_service_pb2.UpdateUserRequest(user_id=desk.agent_id, phone="+8613812345678")
    await desk.served.users.UpdateUser(update, metadata=desk.admin)

    told: list[user_events_pb2.UserEvent] = []

    async def all_told() -> bool:
        stored = await bus.read(f"event.user.{desk.shop.tenant_id}.*", after_seq=0, limit=100)
        told[:] = [decode(each.data, each.headers, user_events_pb2.UserEvent) for each in stored]
        return len(told) >= 7

    listener = Identity(migrated.identity, "operator")
    async with connect(migrated.nats_url, "operator", tls=listener.client_context) as bus:
        await until(all_told)
    created = {event.user.id for event in told if event.WhichOneof("change") == "created"}
    assert {visitor.user.id, customer.user.id, desk.agent_id} < created
    assert len(told) == len({event.event_id for event in told}) == 7
    [updated] = [event.user for event in told if event.WhichOneof("change") == "updated"]
    assert (updated.id, updated.phone) == (desk.agent_id, "**********5678")
    [event] = [event for event in told if event.WhichOneof("change") == "merged"]
    assert (event.merged.visitor_id, event.merged.customer_id) == (visitor.user.id, customer.user.id)
    [event] = [event for event in told if event.WhichOneof("change") == "logged_out"]
    assert (event.user.id, event.logged_out.cause) == (visitor.user.id, user_events_pb2.LOG_OUT_CAUSE_MERGED)
