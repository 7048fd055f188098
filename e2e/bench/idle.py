"""Connections that do nothing but stay, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from octopus.chat.v1 import frame_pb2

from e2e.clients.edge import Edge, Identity
from e2e.clients.transports import Transport, WebSocket

# How many shake hands at once, and how long one may take.
_AT_ONCE = 32
_WITHIN_S = 30.0


@asynccontextmanager
async def connected(edge: Edge, people: Sequence[Identity]) -> AsyncIterator[None]:
    """Keep a WebSocket open for each person, welcomed by chat and silent, until the block ends."""
    transport = WebSocket(edge)
    turn = asyncio.Semaphore(_AT_ONCE)
    async with AsyncExitStack() as stack:
        readers: list[asyncio.Task[None]] = []

        async def stay(identity: Identity) -> None:
            async with turn:
                readers.append(await _stay(transport, identity, stack))

        try:
            await asyncio.gather(*(stay(identity) for identity in people))
            yield
            for reader in readers:
                if reader.done():
                    reader.result()
                    raise ConnectionError("an idle connection was ended by the server")
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


async def _stay(transport: Transport, identity: Identity, stack: AsyncExitStack) -> asyncio.Task[None]:
    stream = await stack.enter_async_context(transport.open(identity, frame_pb2.Hello()))
    welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        async for frame in stream.frames():
            if frame.HasField("welcome"):
                welcome.set_result(None)
            elif frame.HasField("ping"):
                await stream.send(frame_pb2.ClientFrame(pong=frame_pb2.Pong(nonce=frame.ping.nonce)))

    reader = asyncio.create_task(read(), name="idle-connection")
    async with asyncio.timeout(_WITHIN_S):
        await welcome
    return reader
