"""Serves a web application to Envoy: HTTP with mutual TLS, as a member of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mesh.process.member import Member


@asynccontextmanager
async def serve(member: Member, application: web.Application, host: str, port: int) -> AsyncIterator[None]:
    """Serve as long as the block lasts, under the member's certificate, and register in the mesh."""
    certificate = member.identity.server_context()
    member.spawn("follow-certificate", member.identity.follow(certificate))
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=certificate).start()
        await member.announce(runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()
