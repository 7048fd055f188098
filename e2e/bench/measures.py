"""What is measured: conversations and echoes, idle connections, and the platform at rest."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import psutil
from octopus.echo.v1 import echo_service_pb2, echo_service_pb2_grpc

from e2e.bench import cost, crowd, idle
from e2e.bench.order import Measured, Order
from e2e.bench.report import Idle, Rest
from e2e.people import Shop
from e2e.running import Octopus
from mesh.platform.folder import Folder
from mesh.platform.settings import write_settings

# Seconds for what a start leaves behind to be done: caches, the database's own housekeeping.
_SETTLE_S = 15.0
# Seconds after which the memory of connections that were just opened is read.
_IDLE_SETTLE_S = 3.0
# An instance that has registered is in Envoy's routes well within these seconds.
_ROUTED_WITHIN_S = 20.0
# The load opens a thousand connections before it begins.
_LOAD_WITHIN_S = 180.0


class LoadError(Exception):
    """A measurement broke off; the load has printed why."""


async def at_rest(octopus: Octopus, seconds: float) -> Rest:
    """Watch a platform that nobody uses."""
    await asyncio.sleep(_SETTLE_S)
    processes = cost.processes(octopus)
    before = cost.cpu_s(processes)
    await asyncio.sleep(seconds)
    after = cost.cpu_s(processes)
    return Rest(
        seconds=seconds,
        memory_mb=float(octopus.status()["memory_mb"]),
        cpu_percent={name: 100 * (after[name] - before[name]) / seconds for name in after},
    )


async def idle_connections(octopus: Octopus, shop: Shop, number: int) -> Idle:
    """Open connections that do nothing, and weigh them: how much each process grows meanwhile."""
    people = await crowd.idle(shop, number)
    found = cost.processes(octopus)
    before = cost.memory_mb(found)
    async with idle.connected(octopus.edge, people):
        await asyncio.sleep(_IDLE_SETTLE_S)
        after = cost.memory_mb(found)
    return Idle(connections=number, grown_mb={name: after[name] - before[name] for name in after})


@asynccontextmanager
async def echo(octopus: Octopus) -> AsyncIterator[int]:
    """Run the echo in the mesh of a platform; gives its process id once calls from outside reach it."""
    folder = Folder(octopus.root).config
    settings = tomllib.loads((folder / "operator.toml").read_text(encoding="utf-8"))
    write_settings(folder / "echo-1.toml", {**settings, "name": "echo", "instance": "echo-1", "log_level": "warning"})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2e.bench.echo", "--config", str(folder / "echo-1.toml")
    )
    try:
        async with asyncio.timeout(_ROUTED_WITHIN_S), octopus.edge.channel(own_connection=True) as channel:
            while True:
                try:
                    await echo_service_pb2_grpc.EchoServiceStub(channel).Once(echo_service_pb2.OnceRequest())
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.2)
                else:
                    break
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def play(octopus: Octopus, order: Order, echo_pid: int) -> tuple[Measured, dict[str, float]]:
    """Play one measurement; returns it with the processor seconds that each process used meanwhile.

    Raises `LoadError`.
    """
    load = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2e.bench.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    if load.stdin is None or load.stdout is None:
        raise RuntimeError("both were asked for")
    processes = {**cost.processes(octopus), "echo": [psutil.Process(echo_pid)]}
    try:
        load.stdin.write(json.dumps(dataclasses.asdict(order)).encode())
        load.stdin.close()
        async with asyncio.timeout(_LOAD_WITHIN_S + order.seconds):
            if await load.stdout.readline() != b"began\n":
                raise LoadError(f"{order.way} with {len(order.pairs)} pairs")
            before = cost.cpu_s(processes)
            if await load.stdout.readline() != b"ended\n":
                raise LoadError(f"{order.way} with {len(order.pairs)} pairs")
            after = cost.cpu_s(processes)
            measured = Measured(**json.loads(await load.stdout.readline()))
    finally:
        if load.returncode is None:
            load.kill()
        await load.wait()
    return measured, {**{name: after[name] - before[name] for name in after}, "load": measured.load_cpu_s}
