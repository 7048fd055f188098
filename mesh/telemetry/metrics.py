"""Serve the metrics of a process to Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import start_http_server


@asynccontextmanager
async def metrics(port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve `/metrics` at `host` until the end of the block; 0 takes a free port. Yield the port.

    They are served from a thread, so that they are available even when the event loop is blocked.
    Raise `OSError` when the port is in use.
    """
    server, thread = start_http_server(port, addr=host)
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
