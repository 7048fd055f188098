"""Who gets in, and what everybody else is told."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.knowledge.v1 import knowledge_service_pb2, knowledge_service_pb2_grpc
from octopus.options.v1 import options_pb2
from octopus.user.v1 import auth_service_pb2, auth_service_pb2_grpc

from mesh.control.contract import methods
from mesh.errors import Refused
from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.rpc import policy, principal
from mesh.rpc.interceptors.admit import principal_of
from mesh.rpc.metadata import as_service, on_behalf, with_token
from mesh.rpc.tests.conftest import Chat
from mesh.rpc.tokens import TokenVerifier
from mesh.testing.rpc import Keys, dialling, serving

pytestmark = pytest.mark.service

ALL_METHODS = [method.path for method in methods()]

Calling = Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]]
ChatStub = chat_service_pb2_grpc.ChatServiceStub
TYPING = chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=5))


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    check: Any = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer: health_pb2.HealthCheckResponse = await check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return answer.status


async def test_without_a_certificate_there_is_no_connection(identity: Path, address: str) -> None:
    credentials = grpc.ssl_channel_credentials((identity / "ca.pem").read_bytes())
    options = (("grpc.ssl_target_name_override", "chat.octopus.local"),)
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_plain_text_gets_no_connection(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_gets_no_connection(address: str, tmp_path: Path) -> None:
    foreign = Authority(tmp_path)
    foreign.issue("edge")
    async with dialling(tmp_path, "edge", "chat", address) as channel:
        with pytest.raises(Refused) as caught:
            await ChatStub(channel).Send(TYPING)
    assert caught.value.reason == errors_pb2.REASON_UNAVAILABLE


async def test_a_server_under_another_name_is_not_trusted(identity: Path, address: str, keys: Keys) -> None:
    async with dialling(identity, "edge", "session", address) as channel:
        with pytest.raises(Refused) as caught:
            await ChatStub(channel).Send(TYPING, metadata=with_token(keys.token("qingshan", 7, "CUSTOMER")))
    assert caught.value.reason == errors_pb2.REASON_UNAVAILABLE


@pytest.mark.parametrize("caller", ["archive", "operator", "postgres"])
async def test_a_caller_that_is_not_on_the_allowlist_is_refused(as_caller: Calling, caller: str, keys: Keys) -> None:
    async with as_caller(caller) as channel:
        with pytest.raises(Refused) as caught:
            await ChatStub(channel).Send(TYPING, metadata=with_token(keys.token("qingshan", 7, "CUSTOMER")))
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.reason == errors_pb2.REASON_CALLER_NOT_ALLOWED
    assert caller in caught.value.description


@pytest.mark.parametrize("caller", ["archive", "operator", "edge"])
async def test_any_member_may_ask_for_health(as_caller: Calling, caller: str) -> None:
    async with as_caller(caller) as channel:
        answer = await health(channel, "octopus.chat.v1.ChatService")
    assert answer == health_pb2.HealthCheckResponse.SERVING


async def test_who_calls_is_known_to_the_handler(stub: ChatStub, chat: Chat, keys: Keys) -> None:
    seen: list[principal.Principal] = []

    async def send(_: chat_service_pb2.SendRequest) -> chat_service_pb2.SendResponse:
        seen.append(principal.current())
        return chat_service_pb2.SendResponse()

    chat.send = send
    token = keys.token("qingshan", 7, "AGENT", "SUPERVISOR", "ROLE_OF_TOMORROW", name="李雷", scope="a b")
    await stub.Send(TYPING, metadata=with_token(token))
    (caller,) = seen
    assert (caller.tenant_id, caller.user_id, caller.display_name, caller.caller) == ("qingshan", 7, "李雷", "edge")
    assert caller.roles == {options_pb2.ROLE_AGENT, options_pb2.ROLE_SUPERVISOR}
    assert caller.scopes == {"a", "b"}
    assert caller.expires_at is not None
    assert not caller.is_service
    assert on_behalf(caller) == (("authorization", f"Bearer {token}"), ("octopus-user", "7"))
    assert token not in repr(caller)
    assert "李雷" not in repr(caller)
    with pytest.raises(LookupError):
        principal.current()


async def test_a_service_acts_for_itself_within_a_tenant(as_caller: Calling, chat: Chat) -> None:
    seen: list[principal.Principal] = []

    async def send(_: chat_service_pb2.SendRequest) -> chat_service_pb2.SendResponse:
        seen.append(principal.current())
        return chat_service_pb2.SendResponse()

    chat.send = send
    async with as_caller("bot") as channel:
        await ChatStub(channel).Send(TYPING, metadata=as_service("qingshan", affinity=9))
        assert seen[0].is_service
        assert (seen[0].tenant_id, seen[0].user_id, seen[0].caller) == ("qingshan", 0, "bot")
        for tenant, reason in (
            ("Qingshan; drop", errors_pb2.REASON_INVALID_ARGUMENT),
            ("*", errors_pb2.REASON_INVALID_ARGUMENT),
            ("", errors_pb2.REASON_TOKEN_MISSING),
        ):
            with pytest.raises(Refused) as caught:
                await ChatStub(channel).Send(TYPING, metadata=as_service(tenant))
            assert caught.value.reason == reason


@pytest.mark.parametrize("caller", sorted(names.members() - names.acting()))
def test_what_carries_other_peoples_calls_never_acts_for_itself(caller: str) -> None:
    admitting = [
        method
        for method in map(policy.of, ALL_METHODS)
        if method is not None and options_pb2.ROLE_SERVICE in method.roles
    ]
    assert len(admitting) >= 5
    for method in admitting:
        with pytest.raises(Refused) as caught:
            principal_of(method, {"octopus-tenant": "qingshan"}, caller, TokenVerifier())
        assert caught.value.reason == errors_pb2.REASON_TOKEN_MISSING, method.path


async def test_a_tenant_that_a_client_got_past_envoy_makes_it_no_service(as_caller: Calling) -> None:
    async with as_caller("edge") as channel:
        with pytest.raises(Refused) as caught:
            await ChatStub(channel).Send(TYPING, metadata=as_service("qingshan"))
    assert caught.value.reason == errors_pb2.REASON_TOKEN_MISSING


async def test_the_shop_is_the_tokens_whatever_the_metadata_says(as_caller: Calling, keys: Keys, chat: Chat) -> None:
    seen: list[principal.Principal] = []

    async def send(_: chat_service_pb2.SendRequest) -> chat_service_pb2.SendResponse:
        seen.append(principal.current())
        return chat_service_pb2.SendResponse()

    chat.send = send
    token = with_token(keys.token("qingshan", 7, "CUSTOMER"), affinity=8)
    for caller in ("edge", "bot"):
        async with as_caller(caller) as channel:
            await ChatStub(channel).Send(TYPING, metadata=(*token, *as_service("xinghe")))
    assert [(each.tenant_id, each.user_id, each.is_service) for each in seen] == [("qingshan", 7, False)] * 2


async def test_a_service_cannot_act_for_itself_where_only_people_may(as_caller: Calling) -> None:
    async with as_caller("bridge") as channel:
        call = ChatStub(channel).Converse(metadata=as_service("qingshan"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_no_token(stub: ChatStub) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING)
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.reason == errors_pb2.REASON_TOKEN_MISSING


async def test_a_role_that_the_contract_does_not_name(stub: ChatStub, keys: Keys) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=with_token(keys.token("qingshan", 7, "KNOWLEDGE_ADMIN")))
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_a_token_that_claims_to_be_a_service_is_not_believed(stub: ChatStub, keys: Keys) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=with_token(keys.token("qingshan", 7, "SERVICE", "ANYONE")))
    assert caught.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_an_expired_token_also_when_it_was_good_before(stub: ChatStub, keys: Keys) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=with_token(keys.token("qingshan", 7, "CUSTOMER", lifetime=-1)))
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.reason == errors_pb2.REASON_TOKEN_EXPIRED


def _unsigned(keys: Keys) -> str:
    claims = jwt.decode(keys.token("qingshan", 7, "CUSTOMER"), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": keys.key_id})


def _signed_with_the_public_key(keys: Keys) -> str:
    """The classic: the public key, which everybody has, used as the secret of a symmetric algorithm."""
    claims = jwt.decode(keys.token("qingshan", 7, "CUSTOMER"), options={"verify_signature": False})
    secret = json.loads(keys.jwks())["keys"][0]["x"] * 2
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": keys.key_id})


def _forged(keys: Keys) -> str:
    return Keys(keys.key_id).token("qingshan", 7, "CUSTOMER")


def _tampered(keys: Keys) -> str:
    mine, other = keys.token("qingshan", 7, "CUSTOMER"), keys.token("qingshan", 8, "SUPERVISOR")
    head, _, signature = mine.split(".")
    return ".".join((head, other.split(".")[1], signature))


@pytest.mark.parametrize(
    "make",
    [
        _unsigned,
        _signed_with_the_public_key,
        _forged,
        _tampered,
        lambda _: Keys("another").token("qingshan", 7, "CUSTOMER"),
        lambda _: "not.a.token",
        lambda _: "x",
        lambda keys: keys.token("qingshan", 7, "CUSTOMER", aud="somebody else"),
        lambda keys: keys.token("qingshan", 7, "CUSTOMER", iss="somebody else"),
        lambda keys: keys.token("Not A Tenant", 7, "CUSTOMER"),
        lambda keys: keys.token("qingshan", -7, "CUSTOMER"),
        lambda keys: keys.token("qingshan", 7, "CUSTOMER", roles="CUSTOMER"),
        lambda keys: keys.token("qingshan", 7, "CUSTOMER", exp="never"),
        lambda keys: keys.token("qingshan", 7, "CUSTOMER", tid=None),
    ],
)
async def test_a_token_that_is_not_ours_is_invalid(stub: ChatStub, keys: Keys, make: Callable[[Keys], str]) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=with_token(make(keys)))
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.reason == errors_pb2.REASON_TOKEN_INVALID


async def test_another_scheme_than_bearer_is_invalid(stub: ChatStub) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=(("authorization", "Basic bGluOmh1bnRlcjI="),))
    assert caught.value.reason == errors_pb2.REASON_TOKEN_INVALID


class Auth(auth_service_pb2_grpc.AuthServiceServicer):
    async def RefreshToken(self, request: Any, context: Any) -> auth_service_pb2.RefreshTokenResponse:
        assert not principal.current().is_service
        assert principal.current().tenant_id == ""
        return auth_service_pb2.RefreshTokenResponse()


async def test_a_method_for_anyone_looks_at_no_token(identity: Path, keys: Keys) -> None:
    Auth.__abstractmethods__ = frozenset()
    add = partial(auth_service_pb2_grpc.add_AuthServiceServicer_to_server, Auth())  # type: ignore[abstract]
    request = auth_service_pb2.RefreshTokenRequest(refresh_token="abc")
    expired = with_token(keys.token("qingshan", 7, "CUSTOMER", lifetime=-1))
    async with (
        serving(identity, "user", keys, add) as address,
        dialling(identity, "edge", "user", address) as channel,
    ):
        stub = auth_service_pb2_grpc.AuthServiceStub(channel)
        await stub.RefreshToken(request)
        await stub.RefreshToken(request, metadata=expired)
    async with (
        serving(identity, "user", keys, add) as address,
        dialling(identity, "bot", "user", address) as channel,
    ):
        with pytest.raises(Refused) as caught:
            await auth_service_pb2_grpc.AuthServiceStub(channel).RefreshToken(request)
    assert caught.value.reason == errors_pb2.REASON_CALLER_NOT_ALLOWED


class Knowledge(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
    async def GetFaq(self, request: Any, context: Any) -> knowledge_service_pb2.GetFaqResponse:
        return knowledge_service_pb2.GetFaqResponse()


@pytest.mark.parametrize(
    ("roles", "scope", "allowed"),
    [
        (["PARTNER"], "knowledge.read", True),
        (["PARTNER"], "other knowledge.write", True),
        (["PARTNER"], "other", False),
        (["PARTNER"], "", False),
        (["AGENT"], "", True),
        (["PARTNER", "AGENT"], "", True),
        (["CUSTOMER"], "knowledge.read", False),
    ],
)
async def test_a_partner_needs_one_of_the_methods_scopes(
    identity: Path, keys: Keys, roles: list[str], scope: str, allowed: bool
) -> None:
    Knowledge.__abstractmethods__ = frozenset()
    add = partial(knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server, Knowledge())  # type: ignore[abstract]
    metadata = with_token(keys.token("qingshan", 7, *roles, scope=scope))
    async with (
        serving(identity, "knowledge", keys, add) as address,
        dialling(identity, "edge", "knowledge", address) as channel,
    ):
        call = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel).GetFaq(
            knowledge_service_pb2.GetFaqRequest(faq_id=5), metadata=metadata
        )
        if allowed:
            await call
        else:
            with pytest.raises(Refused) as caught:
                await call
            assert caught.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED
