"""The bridge between a WebSocket, as Envoy opens one, and a chat service."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, NegotiationError
from websockets.typing import Subprotocol

from edge.bridge.app import app
from edge.bridge.config import BridgeConfig
from edge.bridge.frames import JSON, PROTOBUF
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.process.member import Member
from mesh.rpc.metadata import ACCEPTED
from mesh.rpc.principal import current
from mesh.rpc.validation import Invalid, takes_invalid
from mesh.testing import Platform
from mesh.testing.rpc import Keys, serving

pytestmark = pytest.mark.service

Request: TypeAlias = chat_service_pb2.ConverseRequest
Response: TypeAlias = chat_service_pb2.ConverseResponse


class Chat(chat_service_pb2_grpc.ChatServiceServicer):
    """A chat service that answers pings, acknowledges posts, and does on a word what a test needs."""

    def __init__(self) -> None:
        self.read = 0
        self.hellos: list[frame_pb2.Hello] = []
        self.flood_sent = 0

    @takes_invalid
    async def Converse(
        self, request_iterator: AsyncIterator[Request | Invalid], context: Any
    ) -> AsyncIterator[Response]:
        """Answer frame by frame."""
        await context.send_initial_metadata(((ACCEPTED, "1"),))
        async for request in request_iterator:
            if isinstance(request, Invalid):
                raise request.refused()
            self.read += 1
            (frame,) = request.frames
            match frame.WhichOneof("frame"):
                case "hello":
                    self.hellos.append(frame.hello)
                    yield _said(welcome=frame_pb2.Welcome(user_id=current().user_id))
                case "ping":
                    yield _said(pong=frame_pb2.Pong(nonce=frame.ping.nonce))
                case "post" if frame.post.content.text.text == "goodbye":
                    yield _said(goodbye=frame_pb2.Goodbye(reason=errors_pb2.REASON_STREAM_TOO_OLD))
                    return
                case "post" if frame.post.content.text.text == "fail":
                    raise Refused(errors_pb2.REASON_SLOW_READER, "too slow")
                case "post" if frame.post.content.text.text == "flood":
                    words = message_pb2.Message(content=message_pb2.Content(text=message_pb2.Text(text="x" * 8000)))
                    while True:
                        yield _said(message=words)
                        self.flood_sent += 1
                case "post":
                    yield _said(ack=frame_pb2.Ack(client_message_id=frame.post.client_message_id))


def _said(**frame: Any) -> Response:
    return Response(frames=[frame_pb2.ServerFrame(**frame)])


class Bridge:
    """A running bridge, its chat, and how to reach it."""

    def __init__(self, platform: Platform, chat: Chat, keys: Keys, port: int) -> None:
        self.chat = chat
        self._platform = platform
        self._keys = keys
        self._port = port

    def token(self, **claims: Any) -> str:
        """Return a customer's token."""
        return self._keys.token("qingshan", 7, "CUSTOMER", **claims)

    def open(
        self, subprotocol: str | None = PROTOBUF, *, path: str = "/ws", caller: str = "edge", **options: Any
    ) -> connect:
        """Open a WebSocket as a member of the mesh."""
        context = Identity(self._platform.identity, caller).client_context()
        return connect(
            f"wss://127.0.0.1:{self._port}{path}",
            ssl=context,
            server_hostname="bridge.octopus.local",
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            compression=None,
            **options,
        )

    async def hello(self, ws: ClientConnection, token: str | None = None) -> frame_pb2.ServerFrame:
        """Say hello and return what comes first."""
        access_token = self.token() if token is None else token
        await ws.send(_frame(hello=frame_pb2.Hello(access_token=access_token)))
        return await _next(ws)


@pytest.fixture
async def bridge(platform: Platform) -> AsyncIterator[Bridge]:
    """A bridge in front of a chat service."""
    keys = Keys()
    chat = Chat()  # type: ignore[abstract]  # the bridge uses one method
    add = functools.partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat)
    async with serving(platform.identity, "chat", keys, add) as address:
        config = platform.config("bridge", BridgeConfig, addresses={"chat": address}, hello_within_s=1.0)
        async with Member(config) as member:
            ports: list[int] = []

            async def announce(port: int) -> None:
                ports.append(port)

            member.announce = announce  # type: ignore[method-assign]  # nobody looks for this bridge in the registry
            async with app(member, config):
                yield Bridge(platform, chat, keys, ports[0])


def _frame(**frame: Any) -> bytes:
    return Request(frames=[frame_pb2.ClientFrame(**frame)]).SerializeToString()


def _post(text: str) -> bytes:
    return _frame(
        post=frame_pb2.PostMessage(
            session_id=1, client_message_id="message-1", content=message_pb2.Content(text=message_pb2.Text(text=text))
        )
    )


async def _next(ws: ClientConnection) -> frame_pb2.ServerFrame:
    async with asyncio.timeout(10):
        data = await ws.recv()
    assert isinstance(data, bytes)
    (frame,) = Response.FromString(data).frames
    return frame


async def _closed(ws: ClientConnection) -> tuple[int | None, str | None]:
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            while True:
                await ws.recv()
    return ws.close_code, ws.close_reason


async def test_frames_pass_both_ways_and_the_token_stays_behind(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        assert (await bridge.hello(ws)).welcome.user_id == 7
        await ws.send(_post("hello"))
        assert (await _next(ws)).ack.client_message_id == "message-1"
        assert bridge.chat.hellos[0].access_token == ""


async def test_json_frames_pass_both_ways(bridge: Bridge) -> None:
    async with bridge.open(JSON) as ws:
        await ws.send(json.dumps({"frames": [{"hello": {"accessToken": bridge.token()}}]}))
        assert json.loads(await ws.recv())["frames"][0]["welcome"]["userId"] == "7"
        await ws.send(json.dumps({"frames": [{"ping": {"nonce": "5"}}]}))
        assert json.loads(await ws.recv()) == {"frames": [{"pong": {"nonce": "5"}}]}


async def test_the_token_may_come_in_a_header(bridge: Bridge) -> None:
    headers = {"Authorization": f"Bearer {bridge.token()}"}
    async with bridge.open(additional_headers=headers) as ws:
        assert (await bridge.hello(ws, token="")).welcome.user_id == 7


@pytest.mark.parametrize(
    ("subprotocol", "data"),
    [(PROTOBUF, b"\xff\xff\xff"), (PROTOBUF, "text"), (JSON, "{not json"), (JSON, b"{}"), (JSON, '{"unknown": 1}')],
)
async def test_what_is_no_frame_is_refused_and_the_connection_goes_on(
    bridge: Bridge, subprotocol: str, data: bytes | str
) -> None:
    async with bridge.open(subprotocol) as ws:
        hello = {"frames": [{"hello": {"accessToken": bridge.token()}}]}
        await ws.send(json.dumps(hello) if subprotocol == JSON else _frame(hello={"access_token": bridge.token()}))
        await ws.recv()
        await ws.send(data)
        answer = await ws.recv()
        refusal = (
            Response.FromString(answer).frames[0].refusal.reason
            if isinstance(answer, bytes)
            else errors_pb2.Reason.Value(json.loads(answer)["frames"][0]["refusal"]["reason"])
        )
        assert refusal == errors_pb2.REASON_INVALID_ARGUMENT
        await ws.send(json.dumps({"frames": [{"ping": {}}]}) if subprotocol == JSON else _frame(ping=frame_pb2.Ping()))
        assert b"pong" in await ws.recv(decode=False) if subprotocol == JSON else (await _next(ws)).HasField("pong")


async def test_a_frame_that_is_too_large_is_refused_and_one_far_too_large_closes(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await bridge.hello(ws)
        await ws.send(_post("x" * 1_000_000))
        assert (await _next(ws)).refusal.reason == errors_pb2.REASON_TEXT_TOO_LONG
        await ws.send(_frame(ping=frame_pb2.Ping(nonce=1)))
        assert (await _next(ws)).pong.nonce == 1
        await ws.send(_post("x" * 3_000_000))
        assert (await _closed(ws))[0] == 1009


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (_frame(ping=frame_pb2.Ping()), errors_pb2.REASON_PROTOCOL),
        (_frame(hello=frame_pb2.Hello()), errors_pb2.REASON_TOKEN_MISSING),
        (_frame(hello=frame_pb2.Hello(access_token="no.token.atall")), errors_pb2.REASON_TOKEN_INVALID),
        (b"\xff\xff", errors_pb2.REASON_INVALID_ARGUMENT),
        (None, errors_pb2.REASON_PROTOCOL),
    ],
)
async def test_a_bad_beginning_closes_with_its_reason(
    bridge: Bridge, first: bytes | None, reason: errors_pb2.Reason.ValueType
) -> None:
    async with bridge.open() as ws:
        if first is not None:
            await ws.send(first)
        assert await _closed(ws) == (4000 + reason, errors_pb2.Reason.Name(reason).removeprefix("REASON_"))


async def test_an_expired_token_closes_with_its_reason(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await ws.send(_frame(hello=frame_pb2.Hello(access_token=bridge.token(lifetime=-60))))
        assert await _closed(ws) == (4000 + errors_pb2.REASON_TOKEN_EXPIRED, "TOKEN_EXPIRED")


async def test_the_end_of_the_stream_closes_with_its_reason(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await bridge.hello(ws)
        await ws.send(_post("goodbye"))
        assert (await _next(ws)).goodbye.reason == errors_pb2.REASON_STREAM_TOO_OLD
        assert await _closed(ws) == (4000 + errors_pb2.REASON_STREAM_TOO_OLD, "STREAM_TOO_OLD")
    async with bridge.open() as ws:
        await bridge.hello(ws)
        await ws.send(_post("fail"))
        assert await _closed(ws) == (4000 + errors_pb2.REASON_SLOW_READER, "SLOW_READER")


async def test_a_client_that_does_not_read_stops_the_reading_from_chat(bridge: Bridge) -> None:
    async with bridge.open(max_queue=1) as ws:
        await bridge.hello(ws)
        await ws.send(_post("flood"))
        sent = -1
        async with asyncio.timeout(20):
            # Sockets and windows fill first; then nothing more moves.
            while sent != bridge.chat.flood_sent:
                sent = bridge.chat.flood_sent
                await asyncio.sleep(1)
        assert sent * 8000 < 64_000_000
        ws.transport.abort()


@pytest.mark.parametrize(("path", "status"), [("/ws?token=secret", 400), ("/ws?x", 400), ("/other", 404)])
async def test_a_wrong_address_is_told(bridge: Bridge, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await bridge.open(path=path)
    assert refused.value.response.status_code == status
    assert b"secret" not in refused.value.response.body


async def test_a_subprotocol_must_be_named(bridge: Bridge) -> None:
    for subprotocol in (None, "something.else"):
        with pytest.raises((InvalidStatus, NegotiationError)) as refused:
            await bridge.open(subprotocol)
        assert not isinstance(refused.value, InvalidStatus) or refused.value.response.status_code == 400


async def test_only_the_edge_may_come_in(bridge: Bridge) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await bridge.open(caller="bot")
    assert refused.value.response.status_code == 403
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises((InvalidHandshake, ssl.SSLError, ConnectionError)):
        async with connect(bridge.open().uri, ssl=context, subprotocols=[Subprotocol(PROTOBUF)]) as ws:
            await ws.recv()
