"""Shoppers who leave the page open cost little: what the bridges and chat hold for them is weighed."""

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

CONNECTIONS = 250
# Of all bridges, and of all chat instances, for each connection; `make bench` weighs them, and Envoy, more finely.
ALLOWED_KIB = {"bridge-": 20, "chat-": 45}


@pytest.mark.timeout(240)
async def test_silent_connections_cost_little(octopus: Octopus, edge: Edge, channel: grpc.aio.Channel) -> None:
    turn = asyncio.Semaphore(16)

    async def visitor() -> way_in.Identity:
        async with turn:
            return await way_in.visitor(channel, "xinghe")

    people = await asyncio.gather(*(visitor() for _ in range(CONNECTIONS)))
    found = {name: each for name, each in cost.processes(octopus).items() if name.startswith(tuple(ALLOWED_KIB))}
    before = cost.memory_mb(found)
    async with connected(edge, people):
        after = cost.memory_mb(found)
    for kind, allowed in ALLOWED_KIB.items():
        grown = sum(after[name] - before[name] for name in found if name.startswith(kind))
        assert 1024 * grown / CONNECTIONS < allowed, (kind, before, after)
