"""The connections of the load: as thin as they can be, so that the load takes little of the machine it measures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Protocol

import grpc
from google.protobuf.json_format import MessageToJson, Parse
from octopus.chat.v1 import frame_pb2
from octopus.chat.v1.chat_service_pb2 import ConverseRequest, ConverseResponse
from octopus.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from e2e.clients.edge import Edge, Identity

Take = Callable[[frame_pb2.ServerFrame], None]
"""What is done with each frame that comes."""


class Wire(Protocol):
    """An open connection."""

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        """Send a frame."""

    async def ended(self) -> None:
        """Return when the server has ended the connection, which it should not."""


Opener = Callable[[Identity, Take, AsyncExitStack], Awaitable[Wire]]
"""Opens a connection and says hello on it."""


def over_grpc(edge: Edge) -> Opener:
    """Open `Converse`, each on a TLS connection of its own."""

    async def opened(identity: Identity, take: Take, stack: AsyncExitStack) -> Wire:
        channel = await stack.enter_async_context(edge.channel(own_connection=True))
        call = ChatServiceStub(channel).Converse(metadata=identity.metadata)
        stack.callback(call.cancel)
        wire = _Grpc(call, take)
        await wire.send(frame_pb2.ClientFrame(hello=frame_pb2.Hello()))
        return wire

    return opened


def over_websocket(edge: Edge, *, json: bool = False) -> Opener:
    """Open a WebSocket, with messages in protobuf or JSON."""
    context = edge.ssl_context()
    subprotocol = "octopus.v1.json" if json else "octopus.v1.proto"

    async def opened(identity: Identity, take: Take, stack: AsyncExitStack) -> Wire:
        transport, wire = await ws_connect(
            lambda: _WebSocket(take, json=json),
            f"wss://{edge.address}/ws",
            ssl_context=context,
            websocket_handshake_timeout=_OPEN_WITHIN_S,
            extra_headers={"Sec-WebSocket-Protocol": subprotocol},
            use_aiofastnet=False,
        )
        stack.callback(transport.disconnect, graceful=False)
        if not isinstance(wire, _WebSocket):
            # picows forgets the listener of a connection that is closed already.
            raise ConnectionError("closed as soon as it was open")
        await wire.send(frame_pb2.ClientFrame(hello=frame_pb2.Hello(access_token=identity.access_token)))
        return wire

    return opened


_OPEN_WITHIN_S: Final = 30.0


class _Grpc:
    def __init__(self, call: grpc.aio.StreamStreamCall[ConverseRequest, ConverseResponse], take: Take) -> None:
        self._call = call
        # gRPC takes one message at a time; a second writer must wait for the first.
        self._turn = asyncio.Lock()
        self._reading = asyncio.create_task(self._read(take))

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        async with self._turn:
            await self._call.write(ConverseRequest(frames=[frame]))

    async def ended(self) -> None:
        await self._reading

    async def _read(self, take: Take) -> None:
        async for response in self._call:
            for frame in response.frames:
                take(frame)


class _WebSocket(WSListener):
    def __init__(self, take: Take, *, json: bool) -> None:
        self._take = take
        self._json = json
        self._transport: WSTransport | None = None
        self._gone = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.BINARY:
            response = ConverseResponse.FromString(frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.TEXT:
            response = Parse(frame.get_payload_as_utf8_text(), ConverseResponse())
        else:
            if frame.msg_type is WSMsgType.CLOSE:
                transport.disconnect()
            return
        for each in response.frames:
            self._take(each)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._gone.set()

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        if self._transport is None:
            raise ConnectionError("not connected")
        request = ConverseRequest(frames=[frame])
        if self._json:
            self._transport.send(WSMsgType.TEXT, MessageToJson(request, indent=None))
        else:
            self._transport.send(WSMsgType.BINARY, request.SerializeToString())

    async def ended(self) -> None:
        await self._gone.wait()
