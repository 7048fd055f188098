"""The control plane: publish the configuration of all clients from the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from mesh.bus import Bus
from mesh.control.ads import Ads
from mesh.control.contract import methods
from mesh.control.feed import Feed, Resource
from mesh.control.picture import Painter, Picture
from mesh.control.resources import channel_resources
from mesh.control.watcher import Watcher
from mesh.identity import names

# Changes within this many seconds, such as those of a start, are published together.
_GATHER_SECONDS: Final = 0.05

_log = structlog.get_logger(__name__)


class ControlPlane:
    """Keeps the feeds in step with the registry while `run` runs.

    The edge's resources are made by a function that is passed in, because the mesh must not import the edge.
    """

    def __init__(
        self,
        bus: Bus,
        edge_resources: Callable[[Picture], Iterable[Resource]],
        *,
        expected: Iterable[str],
    ) -> None:
        """Take a connected bus, the function that makes Envoy's resources, and the names of the expected services."""
        self._dirty = asyncio.Event()
        self.watcher = Watcher(bus, self._dirty.set)
        self._edge_resources = edge_resources
        self._edge, self._channels = Feed(), Feed()
        self._painter = Painter(tuple(expected))
        self.ads = Ads({name: self._edge if name == "edge" else self._channels for name in names.members()})

    async def run(self) -> None:
        """Publish changes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watcher.run(), name="registry watcher")
            # An incomplete picture would send clients away from healthy instances.
            await self.watcher.settled.wait()
            while True:
                await self._dirty.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                self._dirty.clear()
                self._publish()

    def _publish(self) -> None:
        picture = self._painter.paint(self.watcher.instances, self.watcher.splits, self.watcher.jwks)
        channels = self._channels.publish(channel_resources(picture, methods()))
        edge = self._edge.publish(self._edge_resources(picture))
        if channels or edge:
            instances = sum(map(len, (endpoints for each in picture.services for endpoints in each.versions.values())))
            _log.info("configuration published", instances=instances, channels=channels, edge=edge)
