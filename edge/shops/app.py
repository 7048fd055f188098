"""Wires the demo shops' server: HTTP with mutual TLS towards Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.pages.serve import serve
from edge.pages.site import site
from edge.peer import is_edge
from edge.shops.config import ShopsConfig
from edge.shops.identity import PREFIX, add_identities
from mesh.process.member import Member


@asynccontextmanager
async def app(member: Member, config: ShopsConfig) -> AsyncIterator[None]:
    """Serve the shops until the member stops."""
    application = site(config.dist, lambda request: is_edge(request.transport), prefix=PREFIX)
    add_identities(application, config.secrets)
    async with serve(member, application, config.host, config.port):
        yield
