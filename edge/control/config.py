"""Settings of the control process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edge.envoy.config import EdgeConfig
from mesh.bus.bounds import DEFAULT_BYTES, Bounds


class ControlConfig(EdgeConfig):
    """What the control process needs. Clients find the ADS feed at `port`, so it must be the same at each start."""

    # How many bytes the bus's streams may hold together.
    bus_bytes: int = Field(default=DEFAULT_BYTES, ge=16 * 2**20)
    # Where NATS keeps its files, when that is on this machine: the streams stop before its disk is full.
    bus_folder: Path | None = None
    # How many bytes of that disk stay free.
    bus_disk_reserve: int = Field(default=512 * 2**20, ge=0)

    def bus_bounds(self) -> Bounds:
        """Return the bounds of the streams, which this process makes."""
        return Bounds(self.bus_bytes, folder=self.bus_folder, reserve=self.bus_disk_reserve)
