"""What reflection shows, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2

from edge.reflection.contract import METHOD, SERVICES, rules
from edge.reflection.published import published
from edge.reflection.servicer import handlers
from mesh.errors import from_rpc_error
from mesh.testing import Platform
from mesh.testing.rpc import Keys, dialling, serving

pytestmark = pytest.mark.service

CONTRACTS = published()
LIST = reflection_pb2.ServerReflectionRequest(list_services="*")


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
async def channel(platform: Platform, keys: Keys) -> AsyncIterator[grpc.aio.Channel]:
    """A channel as Envoy's."""
    async with (
        serving(
            platform.identity,
            "reflection",
            keys,
            lambda server: server.add_generic_rpc_handlers(tuple(handlers(CONTRACTS))),
            others=rules(CONTRACTS.scopes),
        ) as address,
        dialling(platform.identity, "edge", "reflection", address) as channel,
    ):
        yield channel


async def ask(
    channel: grpc.aio.Channel, token: str | None, request: reflection_pb2.ServerReflectionRequest, version: str
) -> reflection_pb2.ServerReflectionResponse:
    call = channel.stream_stream(
        f"/{version}/{METHOD}",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    stream = call(iter([request]), metadata=metadata, timeout=5)
    response: reflection_pb2.ServerReflectionResponse = await anext(aiter(stream))
    return response


@pytest.mark.parametrize("version", SERVICES)
@pytest.mark.parametrize("role", ["AGENT", "SUPERVISOR", "KNOWLEDGE_ADMIN", "ADMIN"])
async def test_staff_see_the_services_that_can_be_called(
    channel: grpc.aio.Channel, keys: Keys, version: str, role: str
) -> None:
    response = await ask(channel, keys.token("qingshan", 7, role), LIST, version)
    assert [service.name for service in response.list_services_response.service] == [
        "octopus.archive.v1.ArchiveService",
        "octopus.bot.v1.BotService",
        "octopus.chat.v1.ChatService",
        "octopus.knowledge.v1.CannedReplyService",
        "octopus.knowledge.v1.KnowledgeService",
        "octopus.moderation.v1.ModerationService",
        "octopus.presence.v1.PresenceService",
        "octopus.session.v1.SessionService",
        "octopus.user.v1.AuthService",
        "octopus.user.v1.UserService",
    ]


async def test_a_partner_with_a_scope_sees_them(channel: grpc.aio.Channel, keys: Keys) -> None:
    token = keys.token("qingshan", 7, "PARTNER", scope="chat.read")
    assert (await ask(channel, token, LIST, SERVICES[0])).list_services_response.service


@pytest.mark.parametrize("version", SERVICES)
@pytest.mark.parametrize("role", ["VISITOR", "CUSTOMER", "PARTNER"])
async def test_shoppers_and_a_partner_without_a_scope_see_nothing(
    channel: grpc.aio.Channel, keys: Keys, version: str, role: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(channel, keys.token("qingshan", 7, role), LIST, version)
    assert from_rpc_error(refused.value).reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


@pytest.mark.parametrize("version", SERVICES)
async def test_who_has_no_token_sees_nothing(channel: grpc.aio.Channel, version: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(channel, None, LIST, version)
    assert from_rpc_error(refused.value).reason == errors_pb2.REASON_TOKEN_MISSING


async def test_a_method_comes_with_its_rules_and_errors_can_be_read(channel: grpc.aio.Channel, keys: Keys) -> None:
    token = keys.token("qingshan", 7, "AGENT")
    for symbol in ("octopus.chat.v1.ChatService", "google.rpc.ErrorInfo", "google.rpc.BadRequest"):
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        files = (await ask(channel, token, request, SERVICES[0])).file_descriptor_response.file_descriptor_proto
        assert files, symbol


@pytest.mark.parametrize(
    "symbol",
    [
        "octopus.mesh.v1.MeshService",
        "octopus.echo.v1.EchoService",
        "octopus.chat.v1.RelayService",
        "octopus.chat.v1.LogEntry",
        "octopus.session.v1.SessionNotice",
    ],
)
async def test_what_is_internal_is_not_there(channel: grpc.aio.Channel, keys: Keys, symbol: str) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    response = await ask(channel, keys.token("qingshan", 7, "ADMIN"), request, SERVICES[0])
    assert response.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_every_method_that_is_shown_may_be_called_from_outside() -> None:
    shown = 0
    for name in CONTRACTS.services:
        file = descriptor_pb2.FileDescriptorProto()
        CONTRACTS.pool.FindServiceByName(name).file.CopyToProto(file)
        for service in file.service:
            for method in service.method:
                assert "edge" in method.options.Extensions[options_pb2.access].callers, (service.name, method.name)
                shown += 1
    assert shown > 20
