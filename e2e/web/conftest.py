"""A browser for the tests of the pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, async_playwright

# Debian's Chromium as root, without its calls home.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A shop's page on the internet would ask its reader before it calls this machine; a platform is elsewhere.
    "--disable-features=LocalNetworkAccessChecks",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium; each test takes contexts of its own."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program, "no Chromium found: run `make browser`, or install chromium and fonts-noto-cjk"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield running
        await running.close()
