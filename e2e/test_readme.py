"""The client in the README runs as it stands there; only the address and the certificate are this platform's."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from e2e.running import Octopus

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[1]


async def test_the_client_in_the_readme_asks_and_is_answered(octopus: Octopus) -> None:
    (client,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for usual, here in (("localhost:8443", octopus.edge.address), (".octopus/edge/ca.pem", str(octopus.edge.ca))):
        assert usual in client
        client = client.replace(usual, here)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        client,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "gen" / "python")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    text = printed.decode()
    assert text.startswith("stored at ")
    assert "SENDER_KIND_CUSTOMER" in text
    assert "SENDER_KIND_BOT" in text
    assert text.index("SENDER_KIND_CUSTOMER") < text.index("SENDER_KIND_BOT")
