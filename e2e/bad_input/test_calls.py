"""Bad calls."""

from __future__ import annotations

import re
import struct
from typing import Any

import aiohttp
import grpc
import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from e2e.bad_input.conftest import Scene
from e2e.bad_input.refusals import WITHIN_S, checked, discreet, refused, words
from e2e.bad_input.streams import (
    post,
)
from e2e.clients.edge import Edge
from e2e.clients.grpc_web import GrpcWebClient, GrpcWebError
from e2e.people import Shop
from e2e.running import Octopus

pytestmark = pytest.mark.e2e

_BUTTON = session_pb2.HANDOFF_REASON_BUTTON


async def test_anothers_session_is_none(channel: grpc.aio.Channel, scene: Scene) -> None:
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    archive = archive_service_pb2_grpc.ArchiveServiceStub(channel)
    chat = chat_service_pb2_grpc.ChatServiceStub(channel)
    for session_id in (scene.anothers, scene.other_shops, 4711):
        me = scene.who.metadata
        calls: tuple[Any, ...] = (
            sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=session_id), metadata=me),
            sessions.RequestHandoff(
                session_service_pb2.RequestHandoffRequest(session_id=session_id, reason=_BUTTON), metadata=me
            ),
            sessions.EndSession(session_service_pb2.EndSessionRequest(session_id=session_id), metadata=me),
            archive.ListMessages(
                archive_service_pb2.ListMessagesRequest(session_id=session_id, page_size=10), metadata=me
            ),
            chat.Send(chat_service_pb2.SendRequest(post=post(session_id, words()).post), metadata=me),
            chat.Send(chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=session_id)), metadata=me),
            chat.Send(
                chat_service_pb2.SendRequest(receipt=frame_pb2.Receipt(session_id=session_id, read_seq=1)), metadata=me
            ),
        )
        for call in calls:
            assert await refused(call) == "NOT_FOUND"


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x08", b"\x0a\x05abc"])
async def test_a_call_with_garbage_is_refused(body: bytes, channel: grpc.aio.Channel, scene: Scene) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        "/octopus.chat.v1.ChatService/Send", request_serializer=bytes
    )
    assert await refused(call(body, metadata=scene.who.metadata)) == "INVALID_ARGUMENT"


async def test_a_call_with_a_megabyte_is_refused(
    channel: grpc.aio.Channel, browser: GrpcWebClient, scene: Scene
) -> None:
    request = chat_service_pb2.SendRequest(post=post(scene.session_id, words() + "x" * 2**20).post)
    chat = chat_service_pb2_grpc.ChatServiceStub(channel)
    assert await refused(chat.Send(request, metadata=scene.who.metadata)) in ("TEXT_TOO_LONG", "INVALID_ARGUMENT")
    with pytest.raises(GrpcWebError) as error:
        await browser.call(
            "octopus.chat.v1.ChatService/Send",
            request,
            chat_service_pb2.SendResponse,
            token=scene.who.access_token,
        )
    assert checked(error.value.status, error.value.code, error.value.text) in ("TEXT_TOO_LONG", "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "path",
    [
        "/octopus.mesh.v1.MeshService/GetMesh",
        "/octopus.mesh.v1.MeshService/SetTrafficSplit",
        "/octopus.chat.v1.ChatService/Nothing",
        "/grpc.health.v1.Health/Check",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    ],
)
async def test_what_is_not_for_outside_is_not_there(
    path: str, octopus: Octopus, channel: grpc.aio.Channel, scene: Scene
) -> None:
    shop = Shop("qingshan", octopus.logins()["qingshan"], octopus.edge, channel)
    supervisor = await shop.staff(shop.who_is("SUPERVISOR"))
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path, request_serializer=bytes)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"", metadata=(*supervisor.metadata, ("octopus-tenant", "qingshan")))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/grpc-web+proto", b"\xff\xff\xff\xff\xff\xff"),
        ("application/grpc-web+proto", struct.pack(">BI", 0, 3) + b"\xff\xff\xff"),
        ("application/grpc-web-text", b"this is not base64 !"),
        ("application/grpc-web+json", b"{}"),
        ("application/json", b"{}"),
    ],
)
async def test_a_grpc_web_body_of_garbage_is_refused(content_type: str, body: bytes, edge: Edge, scene: Scene) -> None:
    headers = {"content-type": content_type, "authorization": f"Bearer {scene.who.access_token}"}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as http,
        http.post(
            f"https://{edge.address}/octopus.chat.v1.ChatService/Send",
            data=body,
            headers=headers,
            ssl=edge.ssl_context(),
        ) as answer,
    ):
        said_back = (await answer.read()).decode("utf-8", "replace")
        told = dict(re.findall(r"(grpc-[a-z-]+):\s*(.*?)\r\n", said_back)) | dict(answer.headers)
        assert answer.status in (400, 404, 415) or told.get("grpc-status") in ("3", "8", "12"), (answer, said_back)
        discreet(f"{answer.reason} {told.get('grpc-message', '')}")


@pytest.mark.parametrize("method", ["Send", "Subscribe"])
@pytest.mark.parametrize(
    "body", [b"", struct.pack(">BI", 0, 100) + b"abc", struct.pack(">BI", 0, 5), b"\x00\x00"], ids=repr
)
async def test_a_grpc_web_body_without_a_whole_message_is_refused_at_once(
    method: str, body: bytes, edge: Edge, scene: Scene
) -> None:
    headers = {
        "content-type": "application/grpc-web+proto",
        "authorization": f"Bearer {scene.who.access_token}",
    }
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
        http.post(
            f"https://{edge.address}/octopus.chat.v1.ChatService/{method}",
            data=body,
            headers=headers,
            ssl=edge.ssl_context(),
        ) as answer,
    ):
        said_back = (await answer.read()).decode("utf-8", "replace")
        told = dict(re.findall(r"(grpc-[a-z-]+):\s*(.*?)\r\n", said_back)) | dict(answer.headers)
        assert told.get("grpc-status") == "3", (answer, said_back)
