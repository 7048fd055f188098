"""The right of one instance to do a job, which another instance takes over when the holder is gone or frozen.

A lease is a key in the bucket `leases`, `<service>.<job>`, that the server forgets when nobody renews it. The holder
stops earlier than that by its own clock, so two instances do not hold a lease at the same time. A step that was under
way when its process froze may still end late: work done under a lease must bear being done twice.
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
    """One instance's claim to a job. `hold` waits for it, keeps it, and gives it back."""

    def __init__(self, leases: KeyValue, key: str, instance: str) -> None:
        """Take the bucket, the key, and the instance's name, which is for people who look into the bucket."""
        self._leases = leases
        self._key = key
        # Its own: a process that comes back under the same name is another holder.
        self._holder = f"{instance}/{uuid.uuid4().hex}".encode()
        self._revision = 0
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether the lease is ours now. Ask before each step: a process may have been frozen since the last one."""
        return time.monotonic() < self._until

    async def hold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work while the lease is held and cancel it when the lease is lost, again and again until cancelled.

        Return when the work returns, and raise what it raises; the lease is given back then.
        """
        while True:
            await self._take()
            _log.info("lease taken", lease=self._key)
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
        outage = Outage(_log, "lease cannot be asked for, retrying", "lease can be asked for again", lease=self._key)
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
                # Another instance was faster.
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
                # Perhaps an attempt of ours was stored and its answer lost.
                entry = await self._leases.get(self._key)
                if entry is None or entry.value != self._holder:
                    raise
                self._revision = await self._leases.update(self._key, self._holder, revision=entry.revision)
        self._until = began + LEASE_SECONDS

    async def _release(self) -> None:
        """Give the lease back while it is ours, so that the next holder need not wait for its end."""
        left = self._until - time.monotonic()
        self._until = 0.0
        if left <= 0:
            return
        try:
            async with asyncio.timeout(min(left, 1.0)):
                await self._leases.delete(self._key)
        except (BusError, TimeoutError) as error:
            _log.warning("lease not given back", lease=self._key, error=repr(error))
