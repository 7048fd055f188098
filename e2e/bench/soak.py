"""`python -m e2e.bench.soak`: what streams that end badly leave behind in chat and the bridge.

grpcio has lost memory for streams that were cancelled or abandoned. Thousands of them are opened here, in rounds, each
ended in one of these ways, and the memory of each process is read after each round: what grows with the rounds leaks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import grpc
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from e2e.bench import cost, crowd
from e2e.clients.edge import Identity
from e2e.people import Shop
from e2e.running import Octopus, running

# Streams that are open at once.
_LANES: Final = 32
# Seconds after a round for what it has left to be cleaned up.
_SETTLE_S: Final = 5.0
_WATCHED: Final = ("chat-", "bridge-", "edge")

Way = Callable[[Identity], Awaitable[None]]


def ways(octopus: Octopus) -> dict[str, Way]:
    """Return the ways in which streams end, by name."""
    edge, tls = octopus.edge, octopus.edge.ssl_context()

    def hello(token: str = "") -> chat_service_pb2.ConverseRequest:
        frame = frame_pb2.ClientFrame(hello=frame_pb2.Hello(access_token=token))
        return chat_service_pb2.ConverseRequest(frames=[frame])

    async def grpc_stream(who: Identity, *, welcomed: bool, cancelled: bool) -> None:
        async with edge.channel(own_connection=not cancelled) as channel:
            call = chat_service_pb2_grpc.ChatServiceStub(channel).Converse(metadata=who.metadata)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                await call.write(hello())
                if welcomed:
                    await call.read()
                if cancelled:
                    call.cancel()
        # Else the connection was closed under the stream.

    async def websocket(who: Identity, *, welcomed: bool) -> None:
        address = f"wss://{edge.address}/ws"
        with contextlib.suppress(ConnectionClosed):
            async with connect(
                address, ssl=tls, subprotocols=[Subprotocol("octopus.v1.proto")], compression=None, close_timeout=0.1
            ) as ws:
                await ws.send(hello(who.access_token).SerializeToString())
                if welcomed:
                    await ws.recv()
                # As a telephone that loses its network: no closing handshake.
                ws.transport.abort()

    return {
        "grpc: cancelled after the welcome": lambda who: grpc_stream(who, welcomed=True, cancelled=True),
        "grpc: cancelled before the welcome": lambda who: grpc_stream(who, welcomed=False, cancelled=True),
        "grpc: connection closed": lambda who: grpc_stream(who, welcomed=True, cancelled=False),
        "websocket: aborted after the welcome": lambda who: websocket(who, welcomed=True),
        "websocket: aborted before the welcome": lambda who: websocket(who, welcomed=False),
    }


async def soak(octopus: Octopus, shop: Shop, *, streams: int, rounds: int, only: str) -> None:
    """Print what each process has grown by for each stream, by way and round. The first round of each warms up."""
    people = await crowd.idle(shop, _LANES)
    for name, way in ways(octopus).items():
        if only not in name:
            continue
        processes = {key: found for key, found in cost.processes(octopus).items() if key.startswith(_WATCHED)}
        print(f"{name}, {streams} streams a round", flush=True)
        before: dict[str, float] | None = None
        for number in range(rounds + 1):
            await _round(way, people, streams)
            await asyncio.sleep(_SETTLE_S)
            after = cost.memory_mb(processes)
            if before is not None:
                grown = {key: 1024 * 1024 * (after[key] - before[key]) / streams for key in after}
                told = ", ".join(f"{key} {value:+.0f} B ({after[key]:.0f} MB)" for key, value in sorted(grown.items()))
                print(f"  round {number}: {told} a stream", flush=True)
            before = after


async def _round(way: Way, people: Sequence[Identity], streams: int) -> None:
    async def lane(who: Identity) -> None:
        for _ in range(streams // len(people)):
            await way(who)

    await asyncio.gather(*(lane(who) for who in people))


async def run(arguments: argparse.Namespace) -> None:
    """Start a platform and soak it."""
    root = Path(tempfile.mkdtemp(prefix="octopus-soak-"))
    # PostgreSQL runs as another user when we are root.
    root.chmod(0o755)
    try:
        async with running(root) as octopus, octopus.edge.channel(own_connection=True) as channel:
            shop = Shop("qingshan", octopus.logins()["qingshan"], octopus.edge, channel)
            await soak(octopus, shop, streams=arguments.streams, rounds=arguments.rounds, only=arguments.way)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=5000, help="streams in each round")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each way, besides the first")
    parser.add_argument("--way", default="", help="only ways whose name contains this")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
