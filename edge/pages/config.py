"""Settings of the page server."""

from __future__ import annotations

from pathlib import Path

from mesh.process.config import ServiceConfig


class PagesConfig(ServiceConfig):
    """What can be set about pages."""

    # Folder with the built pages, made by `make web`.
    dist: Path = Path(__file__).parent.parent / "web" / "dist"
    # Folder with the published contracts, made by `make contracts`.
    contracts: Path = Path(__file__).parents[2] / "dist" / "contracts"
