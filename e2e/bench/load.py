"""The load: a process of its own that plays one measurement and tells on its standard output how it went.

    python -m e2e.bench.load < order.json

Closed loops: each lane sends, waits until the other party has the message and the sender its acknowledgement, and
sends again. The order is a JSON `Order`; the answer is three lines: `began`, `ended`, and a JSON `Measured`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from octopus.echo.v1 import echo_service_pb2, echo_service_pb2_grpc

from e2e.bench.talk import Party, Talk, Way
from e2e.clients.edge import Edge, Identity
from e2e.clients.transports import Grpc, WebSocket

# As long as a chat message and its frame.
_ECHO = b"x" * 160

# How many connections are opened at once, and how long all of them may take.
_OPENING = 32
_OPEN_WITHIN_S = 120.0

Lane = Callable[[], Awaitable[float | None]]
"""One round trip: the seconds it took, or None when it was refused."""


@dataclass(frozen=True)
class Pair:
    """A conversation: who speaks, who listens, and where. `listener` is shared by pairs with the same agent."""

    speaker_id: int
    speaker_token: str
    listener_id: int
    listener_token: str
    session_id: int


@dataclass(frozen=True)
class Order:
    """One measurement."""

    host: str
    port: int
    ca: str
    way: Way
    # For an echo, only their number counts.
    pairs: tuple[Pair, ...]
    # Messages under way at once in each pair.
    window: int
    # Seconds that are not counted, and seconds that are.
    warm_up_s: float
    seconds: float

    @property
    def edge(self) -> Edge:
        """The way in."""
        return Edge(self.host, self.port, Path(self.ca))

    @staticmethod
    def parse(text: str) -> Order:
        """Read an order as `dataclasses.asdict` and JSON wrote it."""
        values = json.loads(text)
        values["pairs"] = tuple(Pair(**pair) for pair in values["pairs"])
        return Order(**values)


@dataclass
class Measured:
    """How it went."""

    seconds: float = 0.0
    delivered: int = 0
    refused: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass
class _Tally:
    counting: bool = False
    latencies: list[float] = field(default_factory=list)
    refused: int = 0


async def measure(order: Order) -> Measured:
    """Play one measurement. Raises whatever ends one of its streams."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        async with asyncio.timeout(_OPEN_WITHIN_S):
            match order.way:
                case "echo/stream":
                    lanes = await _echo_streams(order, stack)
                case "echo/unary":
                    lanes = await _echo_calls(order, stack)
                case _:
                    lanes = await _talks(order, stack, group)
        tally = _Tally()
        tasks = [group.create_task(_repeat(lane, tally)) for lane in lanes for _ in range(order.window)]
        await asyncio.sleep(order.warm_up_s)
        print("began", flush=True)
        began = time.monotonic()
        tally.counting = True
        await asyncio.sleep(order.seconds)
        tally.counting = False
        seconds = time.monotonic() - began
        print("ended", flush=True)
        for task in tasks:
            task.cancel()
        raise _Done(_measured(seconds, tally))


class _Done(Exception):
    """Ends the task group, with the readers that have no end of their own."""

    def __init__(self, measured: Measured) -> None:
        super().__init__()
        self.measured = measured


def _measured(seconds: float, tally: _Tally) -> Measured:
    latencies = sorted(tally.latencies)
    measured = Measured(seconds=seconds, delivered=len(latencies), refused=tally.refused)
    if latencies:
        measured.p50_ms = 1000 * latencies[len(latencies) // 2]
        measured.p99_ms = 1000 * latencies[len(latencies) * 99 // 100]
    return measured


async def _repeat(lane: Lane, tally: _Tally) -> None:
    while True:
        seconds = await lane()
        if seconds is None:
            tally.refused += 1
            await asyncio.sleep(0.1)
        elif tally.counting:
            tally.latencies.append(seconds)


async def _talks(order: Order, stack: AsyncExitStack, group: asyncio.TaskGroup) -> list[Lane]:
    """Connect everybody, each over a connection of their own."""
    transport = (
        WebSocket(order.edge, json=order.way.endswith("json"))
        if order.way.startswith("websocket")
        else Grpc(order.edge, own_connection=True)
    )
    people = {pair.speaker_id: pair.speaker_token for pair in order.pairs}
    people |= {pair.listener_id: pair.listener_token for pair in order.pairs}
    opening = asyncio.Semaphore(_OPENING)
    parties: dict[int, Party] = {}

    async def connect(user_id: int, token: str) -> None:
        async with opening:
            party = parties[user_id] = await Party.connect(transport, Identity("", user_id, token, ""), stack)
            group.create_task(party.read())
            await party.online.wait()

    await asyncio.gather(*(connect(user_id, token) for user_id, token in people.items()))
    return [Talk(pair.session_id, parties[pair.speaker_id], parties[pair.listener_id]).say for pair in order.pairs]


async def _echo_streams(order: Order, stack: AsyncExitStack) -> list[Lane]:
    lanes: list[Lane] = []
    for _ in order.pairs:
        channel = await stack.enter_async_context(order.edge.channel(own_connection=True))
        call = echo_service_pb2_grpc.EchoServiceStub(channel).Stream()
        stack.callback(call.cancel)
        lock = asyncio.Lock()

        async def once() -> float:
            # With a window, the round trips of one stream would need numbers; the echo is measured with one.
            async with lock:
                began = time.monotonic()
                await call.write(echo_service_pb2.StreamRequest(payload=_ECHO))
                await call.read()
                return time.monotonic() - began

        lanes.append(once)
    return lanes


async def _echo_calls(order: Order, stack: AsyncExitStack) -> list[Lane]:
    lanes: list[Lane] = []
    for _ in order.pairs:
        channel = await stack.enter_async_context(order.edge.channel(own_connection=True))
        stub = echo_service_pb2_grpc.EchoServiceStub(channel)

        async def once() -> float:
            began = time.monotonic()
            await stub.Once(echo_service_pb2.OnceRequest(payload=_ECHO))
            return time.monotonic() - began

        lanes.append(once)
    return lanes


def main() -> None:
    """Read the order and carry it out."""
    order = Order.parse(sys.stdin.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(dataclasses.asdict(runner.run(measure(order)))), flush=True)


if __name__ == "__main__":
    main()
