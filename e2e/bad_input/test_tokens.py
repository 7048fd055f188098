"""Tokens that open nothing."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
import pytest_asyncio
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.session.v1 import session_service_pb2, session_service_pb2_grpc

from e2e.bad_input.conftest import Scene
from e2e.bad_input.forgery import Forger, stolen_key
from e2e.bad_input.refusals import checked, private, refused, words
from e2e.bad_input.streams import (
    close_code,
    closed,
    post,
    websocket,
)
from e2e.clients.edge import Edge
from e2e.clients.grpc_web import GrpcWebClient, GrpcWebError
from e2e.running import Octopus

pytestmark = pytest.mark.e2e


TOKENS: dict[str, tuple[Callable[[Forger], str], str]] = {
    "expired": (Forger.expired, "TOKEN_EXPIRED"),
    "forged": (Forger.forged, "TOKEN_INVALID"),
    "unsigned": (Forger.unsigned, "TOKEN_INVALID"),
    "confused": (Forger.confused, "TOKEN_INVALID"),
    "garbage": (lambda _: "a.b.c", "TOKEN_INVALID"),
    "without end": (lambda forger: forger.signed(exp=None), "TOKEN_INVALID"),
    "another issuer's": (lambda forger: forger.signed(iss="somebody"), "TOKEN_INVALID"),
    "without shop": (lambda forger: forger.signed(tid=None), "TOKEN_INVALID"),
    "a service's": (lambda forger: forger.signed(roles=["SERVICE"]), "ROLE_NOT_ALLOWED"),
    "a partner's": (lambda forger: forger.signed(roles=["PARTNER"]), "ROLE_NOT_ALLOWED"),
}


@pytest_asyncio.fixture(loop_scope="session")
async def forger(octopus: Octopus, scene: Scene) -> Forger:
    return Forger(await stolen_key(octopus.root), scene.who)


async def test_the_forger_could_make_a_good_token(forger: Forger, channel: grpc.aio.Channel, scene: Scene) -> None:
    """What follows is refused for the reason it is made for."""
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    request = session_service_pb2.GetSessionRequest(session_id=scene.session_id)
    found = await sessions.GetSession(request, metadata=bearer(private(forger.signed())))
    assert found.session.id == scene.session_id


def hello(access_token: str = "") -> bytes:
    """The first message over a WebSocket."""
    frame = frame_pb2.ClientFrame(hello=frame_pb2.Hello(access_token=access_token))
    return chat_service_pb2.ConverseRequest(frames=[frame]).SerializeToString()


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize("kind", TOKENS)
async def test_a_bad_token_opens_nothing_over_grpc(
    kind: str, forger: Forger, channel: grpc.aio.Channel, scene: Scene
) -> None:
    make, reason = TOKENS[kind]
    token = private(make(forger))
    chat = chat_service_pb2_grpc.ChatServiceStub(channel)
    request = chat_service_pb2.SendRequest(post=post(scene.session_id, words()).post)
    assert await refused(chat.Send(request, metadata=bearer(token))) == reason
    subscription = chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello())
    assert await refused(chat.Subscribe(subscription, metadata=bearer(token))) == reason
    assert await refused(chat.Converse(metadata=bearer(token))) == reason


@pytest.mark.parametrize("kind", TOKENS)
async def test_a_bad_token_opens_nothing_over_grpc_web(
    kind: str, forger: Forger, browser: GrpcWebClient, scene: Scene
) -> None:
    make, reason = TOKENS[kind]
    token = private(make(forger))
    request = chat_service_pb2.SendRequest(post=post(scene.session_id, words()).post)
    with pytest.raises(GrpcWebError) as error:
        await browser.call("octopus.chat.v1.ChatService/Send", request, chat_service_pb2.SendResponse, token=token)
    assert checked(error.value.status, error.value.code, error.value.text) == reason


@pytest.mark.parametrize("kind", TOKENS)
async def test_a_bad_token_opens_nothing_over_websocket(kind: str, forger: Forger, edge: Edge) -> None:
    make, reason = TOKENS[kind]
    token = private(make(forger))
    async with websocket(edge, token=token) as ws:
        await ws.send(hello())
        assert await closed(ws) == close_code(reason)
    async with websocket(edge) as ws:
        await ws.send(hello(access_token=token))
        assert await closed(ws) == close_code(reason)


async def test_without_a_token_only_signing_in_is_open(channel: grpc.aio.Channel, scene: Scene) -> None:
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    request = session_service_pb2.GetSessionRequest(session_id=scene.session_id)
    forged = (("octopus-user", str(scene.who.user_id)), ("octopus-tenant", "qingshan"))
    assert await refused(sessions.GetSession(request)) == "TOKEN_MISSING"
    assert await refused(sessions.GetSession(request, metadata=forged)) == "TOKEN_MISSING"


async def test_headers_that_only_the_mesh_may_set_change_nothing(channel: grpc.aio.Channel, scene: Scene) -> None:
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    forged = (*scene.who.metadata, ("octopus-user", "1"), ("octopus-tenant", "xinghe"))
    theirs = session_service_pb2.GetSessionRequest(session_id=scene.other_shops)
    assert await refused(sessions.GetSession(theirs, metadata=forged)) == "NOT_FOUND"
    mine = session_service_pb2.GetSessionRequest(session_id=scene.session_id)
    found = (await sessions.GetSession(mine, metadata=forged)).session
    assert (found.id, found.customer_id) == (scene.session_id, scene.who.user_id)
