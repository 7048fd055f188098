"""Connections that the edge has not read: WebSockets stay at the bridge, all others go back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from edge.bridge.frames import PROTOBUF
from edge.bridge.tests.test_bridge import Bridge, running
from edge.bridge.tests.test_upgrades import announcement, request
from mesh.testing import Platform

pytestmark = pytest.mark.service

# More than all buffers on the way hold together.
LARGE = os.urandom(1024 * 1024) * 8
PAGE = request(b"host: shop.example", first=b"POST /octopus.chat.v1.ChatService/Send HTTP/1.1")


class Edge:
    """Takes connections back: answers with what it has been sent, when that has come to its end."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.open = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            data = await reader.read()
            self.heard.append(data)
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


class Unread:
    """A bridge that gets its connections unread, and the edge behind it."""

    def __init__(self, bridge: Bridge, edge: Edge) -> None:
        self.bridge = bridge
        self.edge = edge

    async def connection(self, address: str = "192.0.2.1") -> socket.socket:
        """Connect as the edge does for a client at an address."""
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, str(self.bridge.socket))
        await loop.sock_sendall(client, announcement(address))
        return client

    async def websocket(self, address: str = "192.0.2.1") -> ClientConnection:
        """Open a WebSocket."""
        return await connect(
            "ws://shop.example/ws",
            sock=await self.connection(address),
            subprotocols=[Subprotocol(PROTOBUF)],
            compression=None,
        )

    async def exchange(self, data: bytes, *, slowly: bool = False) -> bytes:
        """Say something, say no more, and return what comes."""
        reader, writer = await asyncio.open_unix_connection(sock=await self.connection())
        try:
            async with asyncio.timeout(60):
                writer.write(data)
                await writer.drain()
                writer.write_eof()
                if slowly:
                    # Nothing is read before all buffers are full.
                    while len(self.edge.heard) == 0:
                        await asyncio.sleep(0.01)
                return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def unread(
    platform: Platform, *, edge_there: bool = True, upgrades_per_minute: int = 1_000
) -> AsyncIterator[Unread]:
    """Run a bridge with a socket, and an edge that takes connections back."""
    with tempfile.TemporaryDirectory() as short:
        path = Path(short) / "edge.sock"
        edge = Edge()
        async with contextlib.AsyncExitStack() as stack:
            if edge_there:
                server = await asyncio.start_unix_server(edge.take, path)
                stack.callback(server.close)
            bridge = await stack.enter_async_context(
                running(
                    platform,
                    socket_folder=Path(short) / "sockets",
                    edge_socket=path,
                    upgrades_per_minute=upgrades_per_minute,
                )
            )
            yield Unread(bridge, edge)


async def test_a_web_socket_stays_at_the_bridge(platform: Platform) -> None:
    async with unread(platform) as here:
        ws = await here.websocket()
        async with ws:
            assert (await here.bridge.hello(ws)).welcome.user_id == 7
        assert here.edge.heard == []


async def test_a_request_in_pieces_is_understood(platform: Platform) -> None:
    async with unread(platform) as here:
        upgrade = request(
            b"Host: a", b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Sec-WebSocket-Protocol: {PROTOBUF}".encode(),
        )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=await here.connection())
        for byte in upgrade:
            writer.write(bytes((byte,)))
            await writer.drain()
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 101")
        writer.close()


async def test_everything_else_goes_back_as_it_came(platform: Platform) -> None:
    async with unread(platform) as here:
        data = announcement("192.0.2.1") + PAGE + LARGE
        assert hashlib.sha256(await here.exchange(PAGE + LARGE)).digest() == hashlib.sha256(data).digest()
        assert await here.exchange(PAGE) == announcement("192.0.2.1") + PAGE


async def test_who_reads_slowly_gets_all_of_it(platform: Platform) -> None:
    async with unread(platform) as here:
        assert len(await here.exchange(PAGE + LARGE, slowly=True)) == len(announcement("192.0.2.1") + PAGE + LARGE)


async def test_the_edge_hears_that_a_client_has_gone(platform: Platform) -> None:
    async with unread(platform) as here:
        client = await here.connection()
        await asyncio.get_running_loop().sock_sendall(client, PAGE)
        async with asyncio.timeout(10):
            while not here.edge.open:
                await asyncio.sleep(0.01)
            client.close()
            while here.edge.open:
                await asyncio.sleep(0.01)
        assert here.edge.heard == [announcement("192.0.2.1") + PAGE]


async def test_one_address_opens_only_so_many(platform: Platform) -> None:
    async with unread(platform, upgrades_per_minute=5) as here:
        # One more is allowed every 12 seconds, however slow the machine is.
        with pytest.raises(InvalidStatus) as refused:
            for _ in range(25):
                await (await here.websocket()).close()
        response = refused.value.response
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert "请求过于频繁" in (response.body or b"").decode()
        async with await here.websocket("192.0.2.2") as ws:
            assert (await here.bridge.hello(ws)).welcome.user_id == 7
        # Others than WebSockets are counted by the edge.
        assert (await here.exchange(PAGE)).endswith(PAGE)


async def test_without_an_edge_that_takes_it_back_a_connection_is_closed(platform: Platform) -> None:
    async with unread(platform, edge_there=False) as here:
        reader, writer = await asyncio.open_unix_connection(sock=await here.connection())
        writer.write(PAGE)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        async with await here.websocket() as ws:
            assert (await here.bridge.hello(ws)).welcome.user_id == 7


async def test_a_bridge_that_stops_waits_for_nobody_silent(platform: Platform) -> None:
    async with unread(platform) as here:
        ws = await here.websocket()
        await here.bridge.hello(ws)
        idle = await here.connection()
        await asyncio.get_running_loop().sock_sendall(idle, PAGE)
        async with asyncio.timeout(10):
            while not here.edge.open:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            await ws.recv()
    assert ws.close_code == 1001
    idle.close()
