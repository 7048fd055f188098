"""Recurring work, done by every instance or by one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mesh.bus.lease import Lease
from mesh.telemetry.outage import Outage

_log = structlog.get_logger(__name__)

Step = Callable[[], Awaitable[None]]


async def periodic(name: str, step: Step, *, every: float, lease: Lease | None = None) -> None:
    """Run a step, pause for `every` seconds, and repeat until cancelled.

    With a lease, only the instance that holds it runs steps. A failing step is logged once until one succeeds again,
    and the next one runs after the same pause.
    """
    if lease is None:
        await _repeat(name, step, every, lambda: True)
    else:
        await lease.hold(lambda: _repeat(name, step, every, lambda: lease.held))


async def _repeat(name: str, step: Step, every: float, allowed: Callable[[], bool]) -> None:
    outage = Outage(_log, "periodic job failed, retrying", "periodic job succeeded again", job=name)
    while True:
        if allowed():
            try:
                await step()
            except Exception as error:  # noqa: BLE001 -- what is unreachable now may answer at the next step
                outage.failed(error)
            else:
                outage.succeeded()
        await asyncio.sleep(every)
