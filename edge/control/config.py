"""Settings of the control process."""

from __future__ import annotations

from typing import ClassVar

from edge.envoy.config import EdgeConfig


class ControlConfig(EdgeConfig):
    """What the control process needs. Clients find the ADS feed at `port`, so it must be the same at each start."""

    provisions_bus: ClassVar[bool] = True
