"""The registration of an instance: an entry in the NATS KV bucket `registry`, renewed every second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from octopus.mesh.v1 import registry_pb2

from mesh.bus import Bus, BusError
from mesh.telemetry.outage import Outage

RENEW_SECONDS: Final = 1.0

_TIMEOUT_SECONDS: Final = 2.0

# A certificate is replaced at half its life of an hour, so two checks a minute keep the registered expiry right.
_CERTIFICATE_EVERY: Final = 30

_log = structlog.get_logger(__name__)


class Registration:
    """One instance's entry in the registry.

    `start` writes it and keeps it fresh, `drain` marks it as draining, `stop` deletes it. Renewals that fail are
    retried until NATS is reachable again, and logged once.
    """

    def __init__(
        self,
        bus: Bus,
        instance: registry_pb2.Instance,
        *,
        certificate_expires_at: Callable[[], datetime] | None = None,
    ) -> None:
        """Take the entry to write; `certificate_expires_at` is called periodically, as certificates rotate."""
        self._entries = bus.kv("registry")
        self._instance = registry_pb2.Instance()
        self._instance.CopyFrom(instance)
        if not self._instance.weight:
            self._instance.weight = 100
        if not self._instance.HasField("started_at"):
            self._instance.started_at.GetCurrentTime()
        self._certificate_expires_at = certificate_expires_at
        self._task: asyncio.Task[None] | None = None
        self.key: Final = f"{instance.service}.{instance.instance_id}"

    async def start(self) -> None:
        """Register the instance as serving; return when NATS has stored the entry. Raise BusError when it cannot."""
        self._instance.health = registry_pb2.HEALTH_SERVING
        self._look_at_certificate()
        await self._put()
        self._task = asyncio.create_task(self._renew(), name=f"registration {self.key}")
        _log.info("instance registered", member=self.key, version=self._instance.version)

    async def drain(self) -> None:
        """Mark the instance as draining: new calls go elsewhere. It stays listed until `stop`."""
        self._instance.health = registry_pb2.HEALTH_DRAINING
        with contextlib.suppress(BusError):
            await self._put()

    async def stop(self) -> None:
        """Delete the entry. When NATS is unreachable, the entry expires after 3 s."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        with contextlib.suppress(BusError):
            await self._entries.delete(self.key, timeout=_TIMEOUT_SECONDS)

    async def _renew(self) -> None:
        count = 0
        outage = Outage(_log, "registration not renewed, retrying", "registration renewed again", member=self.key)
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            count += 1
            if count % _CERTIFICATE_EVERY == 0:
                self._look_at_certificate()
            try:
                await self._put()
            except BusError as error:
                outage.failed(error)
            else:
                outage.succeeded()

    async def _put(self) -> None:
        await self._entries.put(self.key, self._instance.SerializeToString(), timeout=_TIMEOUT_SECONDS)

    def _look_at_certificate(self) -> None:
        if self._certificate_expires_at is not None:
            self._instance.certificate_expires_at.FromDatetime(self._certificate_expires_at())
