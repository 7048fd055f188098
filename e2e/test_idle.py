"""Shoppers who leave the page open cost little: what Envoy, the bridges and chat hold for them is weighed."""

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

CONNECTIONS = 200
# Opened before: what a first connection brings for good is not the price of the next one.
BEFORE = 30
# Of all bridges, of all chat instances and of Envoy, for each connection; `make bench` weighs them more finely.
ALLOWED_KIB = {"bridge-": 12, "chat-": 25, "edge": 35}


@pytest.mark.timeout(240)
async def test_silent_connections_cost_little(octopus: Octopus, edge: Edge, channel: grpc.aio.Channel) -> None:
    turn = asyncio.Semaphore(16)

    async def visitor() -> way_in.Identity:
        async with turn:
            return await way_in.visitor(channel, "xinghe")

    people = await asyncio.gather(*(visitor() for _ in range(BEFORE + CONNECTIONS)))
    found = {name: each for name, each in cost.processes(octopus).items() if name.startswith(tuple(ALLOWED_KIB))}
    async with connected(edge, people[:BEFORE]):
        before = cost.memory_mb(found)
        async with connected(edge, people[BEFORE:]):
            after = cost.memory_mb(found)
    each = {
        kind: 1024 * sum(after[name] - before[name] for name in found if name.startswith(kind)) / CONNECTIONS
        for kind in ALLOWED_KIB
    }
    assert all(each[kind] < allowed for kind, allowed in ALLOWED_KIB.items()), each
