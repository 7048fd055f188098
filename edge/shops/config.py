"""Settings of the demo shops' server."""

from __future__ import annotations

from pathlib import Path

from mesh.process.config import ServiceConfig


class ShopsConfig(ServiceConfig):
    """What can be set about the demo shops."""

    # Folder with the built pages, made by `make web`.
    dist: Path = Path(__file__).parent.parent / "web" / "shops" / "dist"
    # JSON file with the shops' identity secrets, by tenant, under `shops.<tenant>.identity_secret`.
    secrets: Path
