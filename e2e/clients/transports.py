"""Three ways to hold a conversation: gRPC, and WebSocket with messages in protobuf or JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import grpc
from google.protobuf.json_format import MessageToJson, Parse
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from e2e.clients.edge import Edge, Identity


class Stream(Protocol):
    """An open stream of frames."""

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        """Send a frame."""

    def frames(self) -> AsyncIterator[frame_pb2.ServerFrame]:
        """Yield what the server says until the stream ends."""


class Transport(Protocol):
    """Opens streams."""

    def open(self, identity: Identity, hello: frame_pb2.Hello) -> AbstractAsyncContextManager[Stream]:
        """Open a stream and say hello on it."""


class Grpc:
    """`Converse` over gRPC."""

    def __init__(self, edge: Edge, *, own_connection: bool = False) -> None:
        self._edge = edge
        self._own_connection = own_connection

    @asynccontextmanager
    async def open(self, identity: Identity, hello: frame_pb2.Hello) -> AsyncIterator[Stream]:
        """Open a stream and say hello on it."""
        async with self._edge.channel(own_connection=self._own_connection) as channel:
            call = chat_service_pb2_grpc.ChatServiceStub(channel).Converse(metadata=identity.metadata)
            stream = _GrpcStream(call)
            try:
                await stream.send(frame_pb2.ClientFrame(hello=hello))
                yield stream
            finally:
                call.cancel()


class _GrpcStream:
    def __init__(
        self, call: grpc.aio.StreamStreamCall[chat_service_pb2.ConverseRequest, chat_service_pb2.ConverseResponse]
    ) -> None:
        self._call = call
        # gRPC takes one message at a time; a second writer must wait for the first.
        self._turn = asyncio.Lock()

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        async with self._turn:
            await self._call.write(chat_service_pb2.ConverseRequest(frames=[frame]))

    async def frames(self) -> AsyncIterator[frame_pb2.ServerFrame]:
        async for response in self._call:
            for frame in response.frames:
                yield frame


class WebSocket:
    """Messages over a WebSocket; JSON when `json`, else protobuf."""

    def __init__(self, edge: Edge, *, json: bool = False) -> None:
        self._edge = edge
        self._ssl = edge.ssl_context()
        self._json = json

    @asynccontextmanager
    async def open(self, identity: Identity, hello: frame_pb2.Hello) -> AsyncIterator[Stream]:
        """Open a stream and say hello on it."""
        hello.access_token = identity.access_token
        async with connect(
            f"wss://{self._edge.address}/ws",
            ssl=self._ssl,
            subprotocols=[Subprotocol("octopus.v1.json" if self._json else "octopus.v1.proto")],
            compression=None,
            # Envoy lets a closed connection linger for a second, which nobody here need wait for.
            close_timeout=0.1,
        ) as ws:
            stream = _WebSocketStream(ws, json=self._json)
            await stream.send(frame_pb2.ClientFrame(hello=hello))
            yield stream


class _WebSocketStream:
    def __init__(self, ws: ClientConnection, *, json: bool) -> None:
        self._ws = ws
        self._json = json

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        request = chat_service_pb2.ConverseRequest(frames=[frame])
        await self._ws.send(MessageToJson(request, indent=None) if self._json else request.SerializeToString())

    async def frames(self) -> AsyncIterator[frame_pb2.ServerFrame]:
        async for data in self._ws:
            response = (
                chat_service_pb2.ConverseResponse.FromString(data)
                if isinstance(data, bytes)
                else Parse(data, chat_service_pb2.ConverseResponse())
            )
            for frame in response.frames:
                yield frame
