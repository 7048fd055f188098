"""A thousand shoppers who leave the page open cost little: what the bridge holds for them is weighed."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from e2e.bench import cost
from e2e.bench.idle import connected
from e2e.clients import edge as way_in
from e2e.clients.edge import Edge
from e2e.running import Octopus

pytestmark = pytest.mark.e2e

CONNECTIONS = 1000
# Of all bridges together: 100 MB, in the MiB that memory is counted in.
ALLOWED_MIB = 100e6 / 2**20


@pytest.mark.timeout(240)
async def test_a_thousand_idle_connections_cost_the_bridge_less_than_100_mb(
    octopus: Octopus, edge: Edge, channel: grpc.aio.Channel
) -> None:
    turn = asyncio.Semaphore(16)

    async def visitor() -> way_in.Identity:
        async with turn:
            return await way_in.visitor(channel, "xinghe")

    people = await asyncio.gather(*(visitor() for _ in range(CONNECTIONS)))
    bridges = {name: each for name, each in cost.processes(octopus).items() if name.startswith("bridge-")}
    before = sum(cost.memory_mb(bridges).values())
    async with connected(edge, people):
        held = sum(cost.memory_mb(bridges).values()) - before
    assert held < ALLOWED_MIB
