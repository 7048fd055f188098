"""The bridge between a WebSocket, as Envoy opens one, and a chat service."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import ssl
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from octopus.chat.v1 import (
    chat_service_pb2,
    frame_pb2,
    message_pb2,
    relay_pb2,
    relay_service_pb2,
    relay_service_pb2_grpc,
)
from octopus.errors.v1 import errors_pb2
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, NegotiationError
from websockets.typing import Subprotocol

from edge.bridge.app import app
from edge.bridge.config import BridgeConfig
from edge.bridge.frames import JSON, PROTOBUF
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.platform.child import leashed
from mesh.process.member import Member
from mesh.rpc.admission import Admission
from mesh.rpc.metadata import ACCEPTED, INSTANCE
from mesh.rpc.tokens import TokenVerifier
from mesh.rpc.validation import Invalid, reader
from mesh.testing import Platform
from mesh.testing.rpc import Keys, serving

pytestmark = pytest.mark.service

Request: TypeAlias = chat_service_pb2.ConverseRequest
Response: TypeAlias = chat_service_pb2.ConverseResponse
RelayRequest: TypeAlias = relay_service_pb2.RelayRequest
RelayResponse: TypeAlias = relay_service_pb2.RelayResponse


class Chat(relay_service_pb2_grpc.RelayServiceServicer):
    """An instance of chat that answers pings, acknowledges posts, and does on a word what a test needs."""

    def __init__(self, verifier: TokenVerifier, instance: str = "chat-1") -> None:
        self.instance = instance
        self.read = 0
        self.hellos: list[frame_pb2.Hello] = []
        # Conversations that are open, by their number and the person's.
        self.open: dict[int, int] = {}
        self.gone: list[int] = []
        self.asked = 0
        self.lines = 0
        self.sent: defaultdict[int, int] = defaultdict(int)
        self.taken: defaultdict[int, int] = defaultdict(int)
        # What is said to all lines.
        self.out: list[asyncio.Queue[relay_service_pb2.RelayResponse | None]] = []
        self._admission = Admission("/octopus.chat.v1.ChatService/Converse", verifier, caller="bridge")

    async def Relay(self, request_iterator: AsyncIterator[RelayRequest], context: Any) -> AsyncIterator[RelayResponse]:
        """Answer frame by frame."""
        await context.send_initial_metadata(((ACCEPTED, "1"), (INSTANCE, self.instance)))
        self.lines += 1
        out: asyncio.Queue[RelayResponse | None] = asyncio.Queue()
        self.out.append(out)

        async def read() -> None:
            async for request in request_iterator:
                if not request.items:
                    self.asked += 1
                    out.put_nowait(RelayResponse())
                for item in request.items:
                    for answer in self._answers(item):
                        out.put_nowait(RelayResponse(items=[answer]))
            out.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (response := await out.get()) is not None:
                yield response
        finally:
            self.out.remove(out)
            self.lines -= 1
            reading.cancel()

    def _answers(self, item: relay_pb2.FromClient) -> Iterator[relay_pb2.ToClient]:
        number = item.connection
        match item.WhichOneof("item"):
            case "open":
                try:
                    self.open[number] = self._admission.enter(item.open.access_token, item.open.traceparent).user_id
                except Refused as refused:
                    yield _ends(number, refused.reason)
            case "gone":
                self.open.pop(number, None)
                self.gone.append(number)
            case "taken":
                self.taken[number] += item.taken
            case "message" if number in self.open:
                self.read += 1
                request = reader(Request.FromString)(item.message)
                if isinstance(request, Invalid):
                    yield _said(number, refusal=frame_pb2.Refusal(reason=request.refused().reason))
                else:
                    assert isinstance(request, Request)
                    for frame in request.frames:
                        yield from self._answer(number, frame)

    def _answer(self, number: int, frame: frame_pb2.ClientFrame) -> Iterator[relay_pb2.ToClient]:
        match frame.WhichOneof("frame"):
            case "hello":
                self.hellos.append(frame.hello)
                yield _said(number, welcome=frame_pb2.Welcome(user_id=self.open[number]))
            case "ping":
                yield _said(number, pong=frame_pb2.Pong(nonce=frame.ping.nonce))
            case "post":
                yield from self._answer_post(number, frame.post)

    def _answer_post(self, number: int, post: frame_pb2.PostMessage) -> Iterator[relay_pb2.ToClient]:
        match post.content.text.text:
            case "goodbye":
                yield _said(number, goodbye=frame_pb2.Goodbye(reason=errors_pb2.REASON_STREAM_TOO_OLD))
                yield _ends(number, errors_pb2.REASON_STREAM_TOO_OLD)
            case "fail":
                yield _ends(number, errors_pb2.REASON_SLOW_READER)
            case "flood":
                words = message_pb2.Message(content=message_pb2.Content(text=message_pb2.Text(text="x" * 8000)))
                while self.sent[number] - self.taken[number] < WINDOW:
                    said = _said(number, message=words)
                    self.sent[number] += len(said.message)
                    yield said
            case "swallow":
                # Nothing is said to be taken, as when chat is slow.
                pass
            case _:
                yield _said(number, ack=frame_pb2.Ack(client_message_id=post.client_message_id))


WINDOW = 128 * 1024


def _said(number: int, **frame: Any) -> relay_pb2.ToClient:
    response = Response(frames=[frame_pb2.ServerFrame(**frame)])
    return relay_pb2.ToClient(connection=number, message=response.SerializeToString())


def _ends(number: int, reason: errors_pb2.Reason.ValueType) -> relay_pb2.ToClient:
    return relay_pb2.ToClient(connection=number, closed=relay_pb2.RelayClosed(reason=reason))


class Bridge:
    """A running bridge, its chat, and how to reach it."""

    def __init__(self, platform: Platform, chat: Chat, keys: Keys, port: int, socket: Path | None) -> None:
        self.chat = chat
        self._platform = platform
        self._keys = keys
        self._port = port
        self.socket = socket

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

    async def silent(self) -> _Silent:
        """Open a WebSocket and say hello, and then nothing any more, not even pongs."""
        transport, listener = await ws_connect(
            _Silent,
            f"wss://127.0.0.1:{self._port}/ws",
            ssl_context=Identity(self._platform.identity, "edge").client_context(),
            server_hostname="bridge.octopus.local",
            extra_headers={"Sec-WebSocket-Protocol": PROTOBUF},
            enable_auto_pong=False,
            use_aiofastnet=False,
        )
        transport.send(WSMsgType.BINARY, _frame(hello=frame_pb2.Hello(access_token=self.token())))
        assert isinstance(listener, _Silent)
        return listener

    async def hello(self, ws: ClientConnection, token: str | None = None) -> frame_pb2.ServerFrame:
        """Say hello and return what comes first."""
        access_token = self.token() if token is None else token
        await ws.send(_frame(hello=frame_pb2.Hello(access_token=access_token)))
        return await _next(ws)


@pytest.fixture
async def bridge(platform: Platform) -> AsyncIterator[Bridge]:
    """A bridge in front of a chat service."""
    async with running(platform) as bridge:
        yield bridge


@contextlib.asynccontextmanager
async def running(platform: Platform, **settings: Any) -> AsyncIterator[Bridge]:
    """Run a bridge in front of a chat service."""
    keys = Keys()
    chat = Chat(keys.verifier())
    add = functools.partial(relay_service_pb2_grpc.add_RelayServiceServicer_to_server, chat)
    async with serving(platform.identity, "chat", keys, add) as address:
        config = platform.config("bridge", BridgeConfig, addresses={"chat": address}, hello_within_s=1.0, **settings)
        async with Member(config) as member:
            ports: list[int] = []
            sockets: list[Path | None] = []

            async def announce(port: int, *, socket: Path | None = None) -> None:
                ports.append(port)
                sockets.append(socket)

            member.announce = announce  # type: ignore[method-assign]  # nobody looks for this bridge in the registry
            async with app(member, config):
                yield Bridge(platform, chat, keys, ports[0], sockets[0])


def _frame(**frame: Any) -> bytes:
    return Request(frames=[frame_pb2.ClientFrame(**frame)]).SerializeToString()


def _post(text: str) -> bytes:
    return _frame(
        post=frame_pb2.PostMessage(
            session_id=1, client_message_id="message-1", content=message_pb2.Content(text=message_pb2.Text(text=text))
        )
    )


async def _next(ws: ClientConnection) -> frame_pb2.ServerFrame:
    async with asyncio.timeout(30):
        data = await ws.recv()
    assert isinstance(data, bytes)
    (frame,) = Response.FromString(data).frames
    return frame


async def _closed(ws: ClientConnection) -> tuple[int | None, str | None]:
    async with asyncio.timeout(30):
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


async def test_a_client_that_does_not_read_holds_up_itself_only(bridge: Bridge) -> None:
    async with bridge.open(max_queue=1) as slow, bridge.open() as other:
        await bridge.hello(slow)
        await bridge.hello(other)
        for _ in range(400):
            # Chat sends as much as was taken: 50 MB, if all were.
            await slow.send(_post("flood"))
            await _ping(other)
        assert WINDOW <= bridge.chat.sent[1] < 30_000_000
        slow.transport.abort()


async def test_a_client_that_says_more_than_chat_takes_is_not_read_any_more(bridge: Bridge) -> None:
    async with bridge.open() as flooding, bridge.open() as other:
        await bridge.hello(flooding)
        await bridge.hello(other)
        # 60 KB each: an unknown field as ballast.
        size = 60_000
        message = _post("swallow") + b"\xa2\x06" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
        sending = asyncio.create_task(_repeat(flooding, message + b"x" * size))
        for _ in range(300):
            await _ping(other)
        swallowed = bridge.chat.read - 302
        assert 2 < swallowed < 20
        for out in bridge.chat.out:
            out.put_nowait(RelayResponse(items=[relay_pb2.ToClient(connection=1, taken=4 * WINDOW)]))
        async with asyncio.timeout(30):
            while bridge.chat.read <= 302 + swallowed:
                await asyncio.sleep(0.01)
        sending.cancel()
        flooding.transport.abort()


async def _ping(ws: ClientConnection) -> None:
    await ws.send(_frame(ping=frame_pb2.Ping(nonce=5)))
    assert (await _next(ws)).pong.nonce == 5


class _Silent(WSListener):
    """A client that takes what comes and answers nothing."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            self.closed.set_result(frame.get_close_code().value)
            transport.disconnect()


async def _repeat(ws: ClientConnection, data: bytes) -> None:
    while True:
        await ws.send(data)


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
    with pytest.raises((InvalidHandshake, EOFError, OSError)):
        await bridge.open(caller="bot")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises((InvalidHandshake, ssl.SSLError, ConnectionError)):
        async with connect(bridge.open().uri, ssl=context, subprotocols=[Subprotocol(PROTOBUF)]) as ws:
            await ws.recv()


async def test_a_message_may_come_in_pieces(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await bridge.hello(ws)
        data = _frame(ping=frame_pb2.Ping(nonce=9))
        await ws.send([data[:2], data[2:3], data[3:]])
        assert (await _next(ws)).pong.nonce == 9
        await ws.send([b"x" * 900_000] * 3)
        assert (await _closed(ws))[0] == 1009


async def test_text_that_is_no_utf_8_closes_with_its_code(bridge: Bridge) -> None:
    async with bridge.open(JSON) as ws:
        await ws.send(b"\xff\xfe", text=True)
        assert (await _closed(ws))[0] == 1007


async def test_what_fails_for_one_client_leaves_the_others_alone(bridge: Bridge) -> None:
    async with bridge.open(JSON) as failing, bridge.open() as other:
        await failing.send(json.dumps({"frames": [{"hello": {"accessToken": bridge.token()}}]}))
        await failing.recv()
        await bridge.hello(other)
        # What chat would never send, and no codec can turn into JSON.
        for out in bridge.chat.out:
            out.put_nowait(RelayResponse(items=[relay_pb2.ToClient(connection=1, message=b"\xff\xff")]))
        assert await _closed(failing) == (4000 + errors_pb2.REASON_INTERNAL, "INTERNAL")
        await _ping(other)


async def test_all_clients_share_one_line(bridge: Bridge) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for user_id in range(1, 21):
            ws = await stack.enter_async_context(bridge.open())
            welcome = (await bridge.hello(ws, bridge.token(sub=str(user_id)))).welcome
            assert welcome.user_id == user_id
        async with asyncio.timeout(20):
            while bridge.chat.lines > 1:
                await asyncio.sleep(0.01)
        assert len(bridge.chat.open) == 20
    async with asyncio.timeout(20):
        while bridge.chat.open:
            await asyncio.sleep(0.01)


async def test_an_instance_that_stops_gets_nobody_new_and_its_people_stay_until_it_says(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await bridge.hello(ws)
        for out in bridge.chat.out:
            out.put_nowait(RelayResponse(draining=True))
        bridge.chat.instance = "chat-2"
        await _ping(ws)
        async with bridge.open() as later:
            await bridge.hello(later)
            assert bridge.chat.lines == 2
            await _ping(ws)


async def test_a_line_that_ends_closes_its_clients_and_they_come_back(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await bridge.hello(ws)
        for out in bridge.chat.out:
            out.put_nowait(None)
        assert await _closed(ws) == (4000 + errors_pb2.REASON_UNAVAILABLE, "UNAVAILABLE")
    async with bridge.open() as ws:
        await bridge.hello(ws)


async def test_a_silent_line_is_asked_for_a_sign_of_life(bridge: Bridge) -> None:
    async with bridge.open() as ws:
        await bridge.hello(ws)
        async with asyncio.timeout(30):
            while bridge.chat.asked < 3:
                await asyncio.sleep(0.05)
        await _ping(ws)


async def test_a_client_that_does_not_answer_pings_is_closed(platform: Platform) -> None:
    async with running(platform, ping_interval_s=0.5) as bridge, bridge.open(ping_interval=None) as answering:
        await bridge.hello(answering)
        silent = await bridge.silent()
        assert await silent.closed == 1011
        await _ping(answering)


async def test_an_edge_on_this_machine_connects_by_a_socket_that_is_nobody_elses(platform: Platform) -> None:
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short) / "sockets"
        async with running(platform, socket_folder=folder) as bridge:
            assert bridge.socket is not None
            assert bridge.socket.stat().st_mode & 0o777 == 0o600
            assert folder.stat().st_mode & 0o777 == 0o700
            options: Any = {"subprotocols": [Subprotocol(PROTOBUF)], "compression": None}
            async with unix_connect(str(bridge.socket), "ws://bridge/ws", **options) as ws, bridge.open() as other:
                assert (await bridge.hello(ws)).welcome.user_id == 7
                await _ping(ws)
                await ws.send(_post("x" * 8000))
                assert (await _next(ws)).ack.client_message_id == "message-1"
                assert (await bridge.hello(other)).welcome.user_id == 7
            if os.geteuid() == 0:
                assert await _as_nobody(bridge.socket) != 0
        assert not bridge.socket.exists()


async def _as_nobody(path: Path) -> int:
    """Return how a process of another user fares that connects, the folder's permissions aside."""
    path.parent.chmod(0o755)
    path.parent.parent.chmod(0o755)
    path.chmod(0o666)
    program = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); s.send(b'GET'); s.recv(9)[0]"
    )
    process = await asyncio.create_subprocess_exec(
        *leashed(("/usr/bin/python3", "-c", program), uid=65534), stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        return await process.wait()


async def test_a_path_too_long_for_a_socket_leaves_the_port(platform: Platform, tmp_path: Path) -> None:
    async with running(platform, socket_folder=tmp_path / ("x" * 100)) as bridge:
        assert bridge.socket is None
        async with bridge.open() as ws:
            await bridge.hello(ws)
