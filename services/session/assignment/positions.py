"""Notify waiting customers when their place in the queue changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog
from octopus.session.v1.session_events_pb2 import SessionNotice

from mesh.bus import Bus, BusError
from services.session import wire
from services.session.assignment.live_queue import LiveQueue, QueueDown
from services.session.domain import SessionState
from services.session.store import Store

_log = structlog.get_logger(__name__)

# Notified at most, from the head of the queue; a customer further back gets the place with the session.
_MOST_TOLD = 500


class Positions:
    """Collects changes of queues for a moment, then notifies each customer concerned once."""

    def __init__(self, *, store: Store, queue: LiveQueue, bus: Bus, new_id: Callable[[], int], after_s: float) -> None:
        self._store = store
        self._queue = queue
        self._bus = bus
        self._new_id = new_id
        self._after_s = after_s
        self._moved: set[str] = set()
        self._woken = asyncio.Event()

    def moved(self, tenant_id: str) -> None:
        """Note that the queue of a shop may have changed."""
        self._moved.add(tenant_id)
        self._woken.set()

    async def run(self) -> None:
        """Notify until cancelled."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(self._after_s)
            self._woken.clear()
            moved, self._moved = self._moved, set()
            for tenant_id in moved:
                try:
                    await self.tell(tenant_id)
                except QueueDown:
                    # Reconciliation calls `moved` when the queue is back.
                    continue
                except Exception as error:  # noqa: BLE001  # told again at the next move or reconciliation
                    _log.warning("queue positions not sent", tenant=tenant_id, error=repr(error))

    async def tell(self, tenant_id: str) -> None:
        """Send a notice for each session whose place changed since the last notice."""
        async with self._queue.telling(tenant_id) as alone:
            if not alone:
                self.moved(tenant_id)
                return
            places = await self._queue.changed_positions(tenant_id, limit=_MOST_TOLD)
            if not places:
                return
            try:
                sessions = await self._store.sessions(tenant_id, list(places))
                notices = [
                    self._bus.publish(
                        f"notice.{tenant_id}.{session.customer_id}",
                        SessionNotice(session=wire.session(replace(session, queue_position=places[session.id]))),
                        message_id=str(self._new_id()),
                    )
                    for session in sessions
                    if session.state is SessionState.WAITING
                ]
                await asyncio.gather(*notices)
            except BaseException as error:
                await self._queue.untell(tenant_id, places)
                if not isinstance(error, BusError):
                    raise
                _log.warning("queue positions not sent, bus unavailable", tenant=tenant_id)
