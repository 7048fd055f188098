"""The load: a process of its own that runs one measurement and writes the result to its standard output.

    python -m e2e.bench.load < order.json

Closed loops: each lane sends, waits until the other party has the message and the sender its acknowledgement, and
sends again. The answer to an `Order` is three lines: `began`, `ended`, and a `Measured` in JSON.
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

import grpc
import uvloop
from octopus.echo.v1 import echo_service_pb2, echo_service_pb2_grpc

from e2e.bench.order import Measured, Order
from e2e.bench.talk import Party, Talk
from e2e.bench.wire import over_grpc, over_websocket
from e2e.clients.edge import Identity

# As long as a chat message and its frame.
_ECHO = b"x" * 160

# How many connections are opened at once, and how long all of them may take.
_OPENING = 32
_OPEN_WITHIN_S = 120.0

Lane = Callable[[], Awaitable[float | None]]
"""One round trip: the seconds it took, or None when it was refused."""


@dataclass
class _Tally:
    counting: bool = False
    latencies: list[float] = field(default_factory=list)
    refused: int = 0


async def measure(order: Order) -> Measured:
    """Play one measurement. Raises whatever ends one of its streams."""
    tally = _Tally()
    tasks: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                lanes = await _lanes(order, stack, tasks)
            tasks += [asyncio.create_task(_repeat(lane, tally)) for lane in lanes]
            await _let_run(tasks, order.warm_up_s)
            print("began", flush=True)
            began, cpu = time.monotonic(), time.process_time()
            tally.counting = True
            await _let_run(tasks, order.seconds)
            tally.counting = False
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            print("ended", flush=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return Measured.of(seconds, cpu, tally.latencies, tally.refused)


async def _let_run(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    """Wait; none of the tasks should end meanwhile."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _repeat(lane: Lane, tally: _Tally) -> None:
    while True:
        seconds = await lane()
        if seconds is None:
            tally.refused += 1
            await asyncio.sleep(0.1)
        elif tally.counting:
            tally.latencies.append(seconds)


async def _lanes(order: Order, stack: AsyncExitStack, tasks: list[asyncio.Task[None]]) -> list[Lane]:
    if not order.way.startswith("echo/"):
        return await _talks(order, stack, tasks)
    lanes: list[Lane] = []
    for _ in order.pairs:
        channel = await stack.enter_async_context(order.edge.channel(own_connection=True))
        make = _echo_stream if order.way == "echo/stream" else _echo_call
        lanes += [make(echo_service_pb2_grpc.EchoServiceStub(channel), stack) for _ in range(order.window)]
    return lanes


async def _talks(order: Order, stack: AsyncExitStack, tasks: list[asyncio.Task[None]]) -> list[Lane]:
    """Connect everybody, each by a connection of their own."""
    opener = (
        over_websocket(order.edge, json=order.way == "websocket-json")
        if order.way.startswith("websocket")
        else over_grpc(order.edge)
    )
    people = {pair.speaker_id: pair.speaker_token for pair in order.pairs}
    people |= {pair.listener_id: pair.listener_token for pair in order.pairs}
    opening = asyncio.Semaphore(_OPENING)
    parties: dict[int, Party] = {}

    async def connect(user_id: int, token: str) -> None:
        async with opening:
            parties[user_id] = await Party.connect(opener, Identity("", user_id, token, ""), stack, tasks)

    await asyncio.gather(*(connect(user_id, token) for user_id, token in people.items()))
    talks = [Talk(pair.session_id, parties[pair.speaker_id], parties[pair.listener_id]) for pair in order.pairs]
    return [talk.say for talk in talks for _ in range(order.window)]


def _echo_stream(stub: echo_service_pb2_grpc.EchoServiceStub, stack: AsyncExitStack) -> Lane:
    call = stub.Stream()
    stack.callback(call.cancel)

    async def once() -> float:
        began = time.monotonic()
        await call.write(echo_service_pb2.StreamRequest(payload=_ECHO))
        if await call.read() is grpc.aio.EOF:
            raise ConnectionError("the echo ended its stream")
        return time.monotonic() - began

    return once


def _echo_call(stub: echo_service_pb2_grpc.EchoServiceStub, _stack: AsyncExitStack) -> Lane:
    async def once() -> float:
        began = time.monotonic()
        await stub.Once(echo_service_pb2.OnceRequest(payload=_ECHO))
        return time.monotonic() - began

    return once


def main() -> None:
    """Read the order and carry it out."""
    order = Order.parse(sys.stdin.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(dataclasses.asdict(runner.run(measure(order)))), flush=True)


if __name__ == "__main__":
    main()
