"""The configuration of one audience of the control plane, and the streams that wait for its changes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_PREFIX: Final = "type.googleapis.com/"

LISTENER: Final = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTES: Final = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
CLUSTER: Final = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION: Final = _PREFIX + "envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True)
class Resource:
    """One named piece of configuration, serialised once for all clients."""

    type_url: str
    name: str
    value: bytes


Resources = Mapping[str, Mapping[str, Resource]]
"""By type URL and name."""


@dataclass(frozen=True)
class Snapshot:
    """Resources that belong together."""

    version: str
    resources: Resources


@dataclass
class Feed:
    """The newest snapshot of one audience. Streams are notified of newer ones."""

    snapshot: Snapshot | None = None
    _listeners: set[asyncio.Event] = field(default_factory=set)
    # Versions begin with the time of this start, so that none repeats one of the previous process.
    _versions: Iterable[str] = field(default_factory=lambda: map(f"{int(time.time())}.{{}}".format, itertools.count(1)))

    def publish(self, resources: Iterable[Resource]) -> bool:
        """Replace the snapshot if anything differs, and return whether it did."""
        by_type: dict[str, dict[str, Resource]] = {}
        for resource in resources:
            by_type.setdefault(resource.type_url, {})[resource.name] = resource
        if self.snapshot is not None and self.snapshot.resources == by_type:
            return False
        self.snapshot = Snapshot(next(iter(self._versions)), by_type)
        for event in self._listeners:
            event.set()
        return True

    def listen(self, event: asyncio.Event) -> None:
        """Set the event at every later snapshot."""
        self._listeners.add(event)

    def forget(self, event: asyncio.Event) -> None:
        """End `listen`."""
        self._listeners.discard(event)
