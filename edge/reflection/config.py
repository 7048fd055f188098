"""Settings of the reflection server."""

from __future__ import annotations

from mesh.process.config import ServiceConfig


class ReflectionConfig(ServiceConfig):
    """What every process has; there is nothing more to set."""
