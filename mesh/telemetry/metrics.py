"""The numbers of a process, for Prometheus to fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import start_http_server

# Numbers are for this machine's collector; they name methods and consumers, which is nobody else's business.
_HOST: Final = "127.0.0.1"


@asynccontextmanager
async def metrics(port: int = 0) -> AsyncIterator[int]:
    """Serve `/metrics` on the loopback interface until the end of the block; 0 takes a free port. Yields the port.

    Served from a thread of its own, so that numbers come even when the event loop is stuck: then they matter most.
    Raise `OSError` when the port is in use.
    """
    server, thread = start_http_server(port, addr=_HOST)
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
