"""Wires the page server: HTTP with mutual TLS towards Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from edge.pages.config import PagesConfig
from edge.pages.downloads import add_downloads
from edge.pages.shop import DemoShops
from edge.pages.site import site
from edge.peer import is_edge
from mesh.process.member import Member


@asynccontextmanager
async def app(member: Member, config: PagesConfig) -> AsyncIterator[None]:
    """Serve the pages until the member stops."""
    certificate = member.identity.server_context()
    member.spawn("follow-certificate", member.identity.follow(certificate))
    application = site(config.dist, DemoShops(config.shop_secrets), lambda request: is_edge(request.transport))
    add_downloads(application, config.contracts)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port, ssl_context=certificate).start()
        await member.announce(runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()
