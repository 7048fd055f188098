"""Clients leave a server that does not answer for another one."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.bus.client import Client
from mesh.identity.files import Identity
from mesh.platform.child import Child, Command
from mesh.platform.components.nats import program
from mesh.testing import Platform
from mesh.testing.ports import free_port

pytestmark = pytest.mark.store


@asynccontextmanager
async def tls_server(platform: Platform, folder: Path, port: int) -> AsyncIterator[Child]:
    identity = Identity(platform.identity, "nats")
    settings = {
        "listen": f"127.0.0.1:{port}",
        "tls": {"cert_file": str(identity.cert), "key_file": str(identity.key), "ca_file": str(identity.ca)},
    }
    file = folder / f"{port}.conf"
    file.write_text(json.dumps(settings))
    child = Child(Command(name="nats", argv=(str(program()), "-c", str(file)), log=folder / f"{port}.log"))
    child.start()
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield child
    finally:
        child.signal(signal.SIGCONT)
        await child.stop()


async def test_a_server_that_is_frozen_is_left_without_its_consent(platform: Platform, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    client = Client(Identity(platform.identity, "chat").client_context)
    async with tls_server(platform, tmp_path, first) as frozen, tls_server(platform, tmp_path, second):
        back = asyncio.Event()

        async def on_back() -> None:
            back.set()

        await client.connect(
            servers=[f"tls://127.0.0.1:{port}" for port in (first, second)], tls_hostname="nats.octopus.local",
            dont_randomize=True, ping_interval=1, max_outstanding_pings=1, connect_timeout=1, reconnected_cb=on_back,
            max_reconnect_attempts=-1,
        )  # fmt: skip
        try:
            frozen.signal(signal.SIGSTOP)
            # Saying goodbye over TLS would take half a minute.
            async with asyncio.timeout(15):
                await back.wait()
            assert client.connected_url is not None
            assert client.connected_url.port == second
        finally:
            await client.close()
