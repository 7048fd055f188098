"""Periodic jobs: expire offers, end idle sessions, and compare the live queues with the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mesh.bus import Bus
from services.session.agents.duty import Duty
from services.session.assignment.assigner import Assigner, each
from services.session.lifecycle import Lifecycle
from services.session.store import Idle, Store

# What one turn does at most; the rest is for the next.
_MOST = 200


class Reconciliation:
    """The periodic jobs. One instance does them, under a lease; each step is safe to be done by two at once."""

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
        """Return sessions to the queue whose offer was not accepted in time."""
        await each(await self._store.lapsed(limit=_MOST), lambda lapsed: self._duty.lapse(*lapsed))

    async def reconcile(self) -> None:
        """Compare the live queue of every shop with open sessions or present agents with the database."""
        await each(await self._store.live_tenants(), self._assigner.reconcile)

    async def end_idle(self) -> None:
        """End sessions without a message for too long.

        `active_at` is only a lower bound, as it is not updated with each message: the log has the last one.
        """
        await each(await self._store.idle(self._idle, limit=_MOST), self._end_if_idle)

    async def _end_if_idle(self, idle: Idle) -> None:
        heard_at = await self._last_word(idle)
        if heard_at is not None and heard_at > datetime.now(UTC) - self._idle:
            await self._store.heard(idle.tenant_id, idle.session_id, heard_at)
        else:
            await self._lifecycle.end_idle(idle.tenant_id, idle.session_id)

    async def _last_word(self, idle: Idle) -> datetime | None:
        entry = await self._bus.last(f"log.{idle.tenant_id}.{idle.session_id}")
        return None if entry is None else entry.time
