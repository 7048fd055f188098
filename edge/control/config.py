"""Settings of the control process."""

from __future__ import annotations

from edge.envoy.config import EdgeConfig


class ControlConfig(EdgeConfig):
    """What the control process needs. Clients find the ADS feed at `port`, so it must be the same at each start."""
