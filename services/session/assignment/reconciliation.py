"""What happens by itself: offers lapse, silent sessions end, and the live queue is compared with the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog

from mesh.bus import Bus
from services.session.agents.duty import Duty
from services.session.assignment.assigner import Assigner
from services.session.lifecycle import Lifecycle
from services.session.store import Idle, Store

T = TypeVar("T")

_log = structlog.get_logger(__name__)

# What one turn does at most; the rest is for the next.
_MOST = 200


class Reconciliation:
    """The recurring work. All instances do it; each step is safe to be done by two at once."""

    def __init__(
        self, *, lifecycle: Lifecycle, duty: Duty, assigner: Assigner, store: Store, bus: Bus, idle: timedelta
    ) -> None:
        self._lifecycle = lifecycle
        self._duty = duty
        self._assigner = assigner
        self._store = store
        self._bus = bus
        self._idle = idle

    async def lapse_offers(self) -> None:
        """Give offers back that nobody accepted in time, and bring shops up to date whose queue missed something."""
        await _each(await self._store.lapsed(limit=_MOST), lambda lapsed: self._duty.lapse(*lapsed))
        await _each(self._assigner.behind, self._assigner.reconcile)

    async def reconcile(self) -> None:
        """Compare the live queue of every shop in which something is going on with the database."""
        await _each(await self._assigner.tenants(), self._assigner.reconcile)

    async def end_idle(self) -> None:
        """End sessions without a word for too long.

        `active_at` is only a lower bound, for nobody updates it with each message: the log knows the last word.
        """
        await _each(await self._store.idle(self._idle, limit=_MOST), self._end_if_idle)

    async def _end_if_idle(self, idle: Idle) -> None:
        heard_at = await self._last_word(idle)
        if heard_at is not None and heard_at > datetime.now(UTC) - self._idle:
            await self._store.heard(idle.tenant_id, idle.session_id, heard_at)
        else:
            await self._lifecycle.end_idle(idle.tenant_id, idle.session_id)

    async def _last_word(self, idle: Idle) -> datetime | None:
        entry = await self._bus.last(f"log.{idle.tenant_id}.{idle.session_id}")
        return None if entry is None else entry.time


async def _each(items: Iterable[T], step: Callable[[T], Awaitable[None]]) -> None:
    """Take a step for every item: one that fails must not hold the others up."""
    failures = []
    for item in items:
        try:
            await step(item)
        except Exception as error:  # noqa: BLE001  # raised below
            failures.append(error)
    if failures:
        raise ExceptionGroup("some steps failed", failures)


async def every(seconds: float, name: str, step: Callable[[], Awaitable[None]]) -> None:
    """Take a step again and again, with a pause between. One that fails is logged, once until it works again."""
    failing = False
    while True:
        try:
            await step()
        except Exception as error:  # noqa: BLE001  # whatever is away now may be there at the next turn
            if not failing:
                _log.warning("upkeep fails, trying on", step=name, error=repr(error))
            failing = True
        else:
            if failing:
                _log.info("upkeep works again", step=name)
            failing = False
        await asyncio.sleep(seconds)
