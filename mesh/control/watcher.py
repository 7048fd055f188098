"""Watch the state in NATS that the configuration is made from: instances, traffic splits, token keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from google.protobuf.message import DecodeError
from octopus.mesh.v1 import registry_pb2

from mesh.bus import Bus, BusError, streams
from mesh.control.registration import RENEW_SECONDS
from mesh.control.table import Table

# After this many seconds every running instance has renewed at least once, so the picture is complete.
SETTLE_SECONDS: Final = 2 * RENEW_SECONDS

# Seconds within which instances must renew after an outage of NATS: clients need time to reconnect.
GRACE_SECONDS: Final = 8.0

_TICK_SECONDS: Final = 0.5
_PROBE_TIMEOUT_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Watcher:
    """The live picture of the mesh.

    `instances`, `splits` and `jwks` may be read at any time; `changed` is called after each change of them, and not for
    renewals. They are complete once `settled` is set. While NATS is unreachable no instance expires: missing renewals
    then say nothing about the instances.
    """

    def __init__(self, bus: Bus, changed: Callable[[], None]) -> None:
        """Take a connected bus; `run` starts watching."""
        self.instances = Table()
        self.splits: dict[str, dict[str, int]] = {}
        self.jwks: str | None = None
        self.settled = asyncio.Event()
        self._bus = bus
        self._changed = changed
        self._prefix = streams.bucket_of("registry").told("")

    async def run(self) -> None:
        """Watch until cancelled."""
        # Not the bucket's watch: it also reports keys that the server expired, after a restart all of them.
        subscription = await self._bus.subscribe(f"{self._prefix}>", self._heard)
        read = [asyncio.Event(), asyncio.Event()]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow("traffic", self._split, read[0]), name="watch traffic")
                tasks.create_task(self._follow("keys", self._key, read[1]), name="watch keys")
                tasks.create_task(self._expire(), name="watch expiry")
                await asyncio.sleep(SETTLE_SECONDS)
                for event in read:
                    await event.wait()
                self.settled.set()
                self._changed()
        finally:
            await subscription.unsubscribe()

    def _heard(self, data: bytes, headers: Mapping[str, str], subject: str) -> None:
        if "Nats-Marker-Reason" in headers:
            # The server expired the key; this process decides by its own clock which instances have expired.
            return
        key = subject.removeprefix(self._prefix)
        if headers.get("KV-Operation") in ("DEL", "PURGE"):
            if self.instances.gone(key):
                _log.info("instance left", member=key)
                self._changed()
            return
        try:
            changed = self.instances.heard(key, data, time.monotonic())
        except ValueError as error:
            _log.warning("registry entry ignored", reason=str(error))
            return
        if changed:
            _log.info("instance changed", member=key)
            self._changed()

    async def _expire(self) -> None:
        """Drop instances whose lease expired, unless our own connection was lost."""
        deaf = reconnected = False

        def on_reconnect() -> None:
            nonlocal reconnected
            reconnected = True

        forget = self._bus.on_reconnect(on_reconnect)
        before = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_TICK_SECONDS)
                hears = await self._hears()
                now = time.monotonic()
                # A late tick means that this process was stopped, and has not read the renewals sent in the meantime.
                late = now - before > _TICK_SECONDS + 1.5 * _PROBE_TIMEOUT_SECONDS
                before = now
                if not hears:
                    if not deaf:
                        _log.warning("NATS unreachable, registry kept unchanged")
                    deaf = True
                    continue
                if deaf or late or reconnected:
                    _log.info("NATS reachable again, instances have time to renew", seconds=GRACE_SECONDS)
                    deaf = reconnected = False
                    self.instances.grant(now + GRACE_SECONDS)
                for instance in self.instances.expire(now):
                    name = f"{instance.service}.{instance.instance_id}"
                    _log.warning("instance expired", member=name)
                    self._changed()
        finally:
            forget()

    async def _hears(self) -> bool:
        """Return whether the server answers: a connection may look open long after its peer is gone."""
        if not self._bus.is_connected:
            return False
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
                await self._bus.kv("keys").get("jwks")
        except (BusError, TimeoutError):
            return False
        return True

    async def _follow(self, bucket: str, take: Callable[[str, bytes | None], None], read: asyncio.Event) -> None:
        """Pass every value of a bucket to `take`, and None for a key that was removed, until cancelled."""
        async for entry in self._bus.kv(bucket).watch():
            if entry is None:
                read.set()
            else:
                take(entry.key, entry.value)
                self._changed()

    def _split(self, service: str, value: bytes | None) -> None:
        if value is None:
            self.splits.pop(service, None)
            return
        try:
            self.splits[service] = dict(registry_pb2.TrafficSplit.FromString(value).percent)
        except DecodeError:
            _log.warning("malformed traffic split ignored", service=service)

    def _key(self, key: str, value: bytes | None) -> None:
        if key == "jwks":
            self.jwks = value.decode() if value else None
