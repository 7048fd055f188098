"""Streams that begin badly."""

from __future__ import annotations

import grpc
import pytest
from octopus.chat.v1 import frame_pb2
from websockets.exceptions import InvalidStatus

from e2e.bad_input.conftest import Scene
from e2e.bad_input.refusals import discreet, refused, words
from e2e.bad_input.streams import (
    JSON,
    PROTO,
    Case,
    GrpcStream,
    WebSocketStream,
    anything,
    case,
    close_code,
    closed,
    post,
    websocket,
)
from e2e.clients.edge import Edge

pytestmark = pytest.mark.e2e

BEGINNINGS: dict[str, tuple[frame_pb2.ClientFrame, str]] = {
    "no hello": (frame_pb2.ClientFrame(ping=frame_pb2.Ping(nonce=1)), "PROTOCOL"),
    "no token": (frame_pb2.ClientFrame(hello=frame_pb2.Hello()), "TOKEN_MISSING"),
    "a token that is none": (
        frame_pb2.ClientFrame(hello=frame_pb2.Hello(access_token="Bearer of bad news")),
        "TOKEN_INVALID",
    ),
}


@pytest.mark.parametrize("protocol", [PROTO, JSON])
@pytest.mark.parametrize("name", BEGINNINGS)
async def test_a_websocket_that_begins_badly_is_closed_with_the_reason(name: str, protocol: str, edge: Edge) -> None:
    frame, reason = BEGINNINGS[name]
    async with websocket(edge, protocol) as ws:
        await WebSocketStream(ws, protocol).send(case(frame, ""))
        assert await closed(ws) == close_code(reason)


@pytest.mark.parametrize("protocol", [PROTO, JSON])
async def test_a_websocket_that_begins_with_garbage_is_closed_with_the_reason(protocol: str, edge: Edge) -> None:
    async with websocket(edge, protocol) as ws:
        await WebSocketStream(ws, protocol).send(Case(b"\xff\xff" + words().encode(), words(), ""))
        assert await closed(ws) == close_code("INVALID_ARGUMENT")


async def test_a_grpc_stream_needs_a_hello_first(channel: grpc.aio.Channel, scene: Scene) -> None:
    call = anything(channel)(metadata=scene.who.metadata)
    await GrpcStream(call).send(case(post(scene.session_id, words()), ""))
    assert await refused(call) == "PROTOCOL"


async def test_a_grpc_stream_that_begins_with_garbage_is_refused(channel: grpc.aio.Channel, scene: Scene) -> None:
    call = anything(channel)(metadata=scene.who.metadata)
    await call.write(b"\xff\xff" + words().encode())
    assert await refused(call) == "INVALID_ARGUMENT"


async def test_a_grpc_stream_of_nothing_is_refused(channel: grpc.aio.Channel, scene: Scene) -> None:
    call = anything(channel)(metadata=scene.who.metadata)
    await call.done_writing()
    assert await refused(call) == "PROTOCOL"


@pytest.mark.parametrize(
    ("path", "protocol", "status"),
    [("/ws?token={token}", PROTO, 400), ("/ws", "octopus.v9", 400), ("/ws", "", 400), ("/socket", PROTO, 403)],
)
async def test_a_websocket_in_the_wrong_place_is_not_opened(
    path: str, protocol: str, status: int, edge: Edge, scene: Scene
) -> None:
    with pytest.raises(InvalidStatus) as error:
        async with websocket(edge, protocol, path=path.format(token=scene.who.access_token)):
            pass
    assert error.value.response.status_code == status
    discreet((error.value.response.body or b"-").decode())
