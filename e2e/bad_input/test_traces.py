"""What is left of all that was said: nothing. Runs last, after the tests whose words it looks for."""

from __future__ import annotations

import asyncio
import secrets

import aiohttp
import pytest

from e2e.bad_input.refusals import said
from e2e.clients.edge import Edge
from e2e.running import Octopus
from mesh.platform.folder import Folder

pytestmark = pytest.mark.e2e


async def test_no_log_holds_what_was_said(octopus: Octopus, edge: Edge) -> None:
    assert len(said) > 20
    mark = f"/{secrets.token_hex(8)}"
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"https://{edge.address}{mark}?token={max(said, key=len)}", ssl=edge.ssl_context()),
    ):
        pass
    log = Folder(octopus.root).log
    async with asyncio.timeout(20):
        # Envoy writes its log every ten seconds.
        while mark not in (log / "edge.log").read_text():
            await asyncio.sleep(0.2)
    for path in sorted(log.glob("*.log")):
        text = path.read_text(errors="replace")
        found = [secret for secret in said if secret in text]
        assert not found, f"{path.name} holds {len(found)} things that were said, such as {found[0]}"
