"""Streams on which anything can be said, also what is no frame."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.json_format import MessageToDict, Parse
from octopus.chat.v1 import chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from e2e.bad_input.refusals import WITHIN_S
from e2e.clients.edge import Edge

PROTO, JSON = "octopus.v1.proto", "octopus.v1.json"


@dataclass(frozen=True)
class Case:
    """A message that is refused, or whose one frame is."""

    message: bytes
    # In JSON.
    text: str
    reason: str


def post(session_id: int, text: str | None, **changed: Any) -> frame_pb2.ClientFrame:
    """Return a message."""
    fields: dict[str, Any] = {"session_id": session_id, "client_message_id": secrets.token_hex(8)}
    if text is not None:
        fields["content"] = message_pb2.Content(text=message_pb2.Text(text=text))
    return frame_pb2.ClientFrame(post=frame_pb2.PostMessage(**(fields | changed)))


def case(frame: frame_pb2.ClientFrame, reason: str) -> Case:
    message = chat_service_pb2.ConverseRequest(frames=[frame])
    return Case(message.SerializeToString(), json.dumps(MessageToDict(message)), reason)


def anything(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamMultiCallable[bytes, bytes]:
    """Return `Converse` for bytes of any kind."""
    return channel.stream_stream("/octopus.chat.v1.ChatService/Converse", request_serializer=bytes)


class RawStream(ABC):
    """An open stream."""

    def __init__(self) -> None:
        # Frames that came with the one returned last.
        self._more: deque[frame_pb2.ServerFrame] = deque()

    @abstractmethod
    async def send(self, what: Case) -> None:
        """Send a frame, or what is none."""

    @abstractmethod
    async def receive(self) -> chat_service_pb2.ConverseResponse:
        """Return the next message."""

    async def next(self, kind: str) -> frame_pb2.ServerFrame:
        """Return the next frame of a kind, past all others."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                while not self._more:
                    self._more.extend((await self.receive()).frames)
                frame = self._more.popleft()
                if frame.HasField(kind):  # type: ignore[arg-type]
                    return frame
                assert not frame.HasField("goodbye"), frame


class GrpcStream(RawStream):
    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        super().__init__()
        self._call = call

    async def send(self, what: Case) -> None:
        await self._call.write(what.message)

    async def receive(self) -> chat_service_pb2.ConverseResponse:
        return chat_service_pb2.ConverseResponse.FromString(cast("bytes", await self._call.read()))


class WebSocketStream(RawStream):
    def __init__(self, ws: ClientConnection, protocol: str) -> None:
        super().__init__()
        self._ws = ws
        self._json = protocol == JSON

    async def send(self, what: Case) -> None:
        await self._ws.send(what.text if self._json else what.message)

    async def receive(self) -> chat_service_pb2.ConverseResponse:
        data = await self._ws.recv()
        assert isinstance(data, str) == self._json
        if isinstance(data, str):
            return Parse(data, chat_service_pb2.ConverseResponse())
        return chat_service_pb2.ConverseResponse.FromString(data)


def websocket(edge: Edge, protocol: str = PROTO, *, token: str = "", path: str = "/ws") -> connect:
    """A WebSocket to the edge."""
    return connect(
        f"wss://{edge.address}{path}",
        ssl=edge.ssl_context(),
        subprotocols=[Subprotocol(protocol)] if protocol else None,
        additional_headers={"authorization": f"Bearer {token}"} if token else None,
        max_size=2**22,
        # Envoy lets a closed connection linger for a second, which a test need not wait for.
        close_timeout=0.1,
    )


async def closed(ws: ClientConnection) -> tuple[int, str]:
    """Return code and text of the close that must come."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(WITHIN_S):
            while True:
                await ws.recv()
    assert ws.close_code is not None
    return ws.close_code, ws.close_reason or ""


def close_code(reason: str) -> tuple[int, str]:
    """Return the close that carries a reason."""
    return 4000 + errors_pb2.Reason.Value(f"REASON_{reason}"), reason
