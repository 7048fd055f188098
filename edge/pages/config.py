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
    # JSON file with the identity secrets of the demo shops, by tenant, under `shops.<tenant>.identity_secret`. Absent
    # where shops sign for themselves, as all but the demo do.
    shop_secrets: Path | None = None
