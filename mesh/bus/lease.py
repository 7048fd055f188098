"""Leases: one instance does a job, and another instance takes over when the holder is gone or frozen.

A lease is a key in the bucket `leases`, `<service>.<job>`, that expires when it is not renewed. The holder
stops earlier than that by its own clock, so two instances do not hold a lease at the same time. A step that was running
when its process froze may still end late: work done under a lease must be idempotent.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from mesh.bus.errors import BusError, Conflict
from mesh.bus.kv import KeyValue
from mesh.bus.streams import LEASES, bucket_of
from mesh.retrying import retrying
from mesh.telemetry.outage import Outage

# A holder that was killed or is frozen is replaced after this, in seconds.
LEASE_SECONDS: Final = bucket_of(LEASES).ttl

_RETRY_SECONDS: Final = 0.5

_log = structlog.get_logger(__name__)


class Lease:
    """One instance's claim to a job. `hold` acquires, renews and releases it."""

    def __init__(self, leases: KeyValue, key: str, instance: str) -> None:
        """Take the bucket, the key, and the instance's name, for operators who inspect the bucket."""
        self._leases = leases
        self._key = key
        # Unique: a process that restarts under the same name is another holder.
        self._holder = f"{instance}/{uuid.uuid4().hex}".encode()
        self._revision = 0
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Return whether the lease is held. Check before each step: the process may have been frozen in between."""
        return time.monotonic() < self._until

    async def hold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run the work while the lease is held and cancel it when the lease is lost; repeat until cancelled.

        Return when the work returns, and raise what it raises; the lease is released then.
        """
        while True:
            await self._take()
            _log.info("lease acquired", lease=self._key)
            working = asyncio.ensure_future(work())
            renewing = asyncio.create_task(self._renew(), name=f"lease {self._key}")
            try:
                await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return working.result()
                _log.warning("lease lost", lease=self._key)
            finally:
                for task in (working, renewing):
                    task.cancel()
                await asyncio.gather(working, renewing, return_exceptions=True)
                await self._release()

    async def _take(self) -> None:
        outage = Outage(_log, "lease not acquired, retrying", "lease can be acquired again", lease=self._key)
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(LEASE_SECONDS):
                    entry = await self._leases.get(self._key)
                    if entry is None or entry.value is None:
                        began = time.monotonic()
                        self._revision = await self._leases.create(self._key, self._holder)
                        self._until = began + LEASE_SECONDS
                        outage.succeeded()
                        return
            except Conflict:
                # Another instance acquired it first.
                outage.succeeded()
            except (BusError, TimeoutError) as error:
                outage.failed(error)
            else:
                outage.succeeded()
            await asyncio.sleep(LEASE_SECONDS / 5)

    async def _renew(self) -> None:
        """Renew until the lease is lost."""
        outage = Outage(_log, "lease not renewed, retrying", "lease renewed again", lease=self._key)
        retry = retrying(
            outage,
            BusError,
            TimeoutError,
            but=(Conflict,),
            first=_RETRY_SECONDS,
            longest=_RETRY_SECONDS,
            ends=lambda: not self.held,
        )
        with suppress(Conflict):
            while self.held:
                await asyncio.sleep(LEASE_SECONDS / 3)
                await retry(self._renew_once)

    async def _renew_once(self) -> None:
        """Renew unless the lease has ended. Raise Conflict when another instance has it."""
        began = time.monotonic()
        if began >= self._until:
            return
        async with asyncio.timeout(self._until - began):
            try:
                self._revision = await self._leases.update(self._key, self._holder, revision=self._revision)
            except Conflict:
                # A previous attempt may have been stored and its answer lost.
                entry = await self._leases.get(self._key)
                if entry is None or entry.value != self._holder:
                    raise
                self._revision = await self._leases.update(self._key, self._holder, revision=entry.revision)
        self._until = began + LEASE_SECONDS

    async def _release(self) -> None:
        """Release the lease if it is held, so that the next holder does not wait for its end."""
        left = self._until - time.monotonic()
        self._until = 0.0
        if left <= 0:
            return
        try:
            async with asyncio.timeout(min(left, 1.0)):
                await self._leases.delete(self._key)
        except (BusError, TimeoutError) as error:
            _log.warning("lease not released", lease=self._key, error=repr(error))
