"""The serving instances in the registry, from which the supervisor knows that a member is ready."""

from __future__ import annotations

import asyncio

from octopus.mesh.v1 import registry_pb2

from mesh.bus import BusError, connect
from mesh.identity.files import Identity


class Serving:
    """Follows the registry while `run` runs."""

    def __init__(self, url: str, identity: Identity) -> None:
        """Take where NATS is and who asks."""
        self._url = url
        self._identity = identity
        self._pids: dict[str, int] = {}

    def pids(self) -> dict[str, int]:
        """Return the process id of each instance that takes calls, by instance."""
        return self._pids

    async def run(self) -> None:
        """Follow the registry until cancelled; retry until the bus is reachable again."""
        while True:
            try:
                async with connect(self._url, self._identity.name, tls=self._identity.client_context) as bus:
                    async for entry in bus.kv("registry").watch():
                        if entry is None:
                            continue
                        instance = registry_pb2.Instance()
                        if entry.value is not None:
                            instance.ParseFromString(entry.value)
                        name = entry.key.partition(".")[2]
                        if instance.health == registry_pb2.HEALTH_SERVING:
                            self._pids[name] = instance.pid
                        else:
                            self._pids.pop(name, None)
            except (BusError, OSError):
                await asyncio.sleep(1)
