"""Channels to the platform."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grpclib.client import Channel
from grpclib.events import RecvTrailingMetadata, listen

from octopus_client.errors import check


@asynccontextmanager
async def connect(host: str, port: int = 443, *, ca: Path | None = None) -> AsyncIterator[Channel]:
    """Open a channel over TLS, and close it at the end of the block. Calls on it raise `Refused`.

    `ca` is a PEM file with the authority to trust instead of those of the system.
    """
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    context.set_alpn_protocols(["h2"])
    channel = Channel(host, port, ssl=context)
    listen(channel, RecvTrailingMetadata, _on_end)
    try:
        yield channel
    finally:
        channel.close()


async def _on_end(event: RecvTrailingMetadata) -> None:
    check(event.status, event.status_message, event.status_details)
