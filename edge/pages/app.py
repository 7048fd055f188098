"""Wires the page server: HTTP with mutual TLS towards Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.pages.config import PagesConfig
from edge.pages.downloads import add_downloads
from edge.pages.serve import serve
from edge.pages.site import site
from edge.peer import is_edge
from mesh.process.member import Member


@asynccontextmanager
async def app(member: Member, config: PagesConfig) -> AsyncIterator[None]:
    """Serve the pages until the member stops."""
    application = site(config.dist, lambda request: is_edge(request.transport))
    add_downloads(application, config.contracts)
    async with serve(member, application, config.host, config.port):
        yield
