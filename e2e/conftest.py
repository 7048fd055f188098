"""One platform for all tests from outside: two copies of what matters, demo data, real components."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from e2e.clients.edge import Edge
from e2e.people import Shop
from e2e.running import Octopus, running

ARTIFACTS = Path(__file__).parent / "artifacts"


@pytest.fixture(scope="session")
def octopus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Octopus]:
    """The platform with two copies of chat, session and bridge."""
    root = tmp_path_factory.mktemp("octopus")
    # PostgreSQL may run as another user, who has to reach its data.
    for folder in (root, *root.parents):
        if folder.owner() == root.owner():
            with contextlib.suppress(PermissionError):
                folder.chmod(folder.stat().st_mode | 0o055)
    with _elsewhere(running(root, "--instances", "chat=2,session=2,bridge=2")) as platform:
        yield platform


@pytest.fixture
def edge(octopus: Octopus) -> Edge:
    """The way in."""
    return octopus.edge


@pytest.fixture
async def channel(edge: Edge) -> AsyncIterator[grpc.aio.Channel]:
    """A gRPC channel to the edge."""
    async with edge.channel() as channel:
        yield channel


@pytest.fixture
async def qingshan(octopus: Octopus, channel: grpc.aio.Channel) -> AsyncIterator[Shop]:
    """The clothes shop, with nobody waiting and every agent away."""
    shop = Shop("qingshan", octopus.logins()["qingshan"], octopus.edge, channel)
    await shop.close_up()
    yield shop
    await shop.close_up()


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and the like are kept."""
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


@contextlib.contextmanager
def _elsewhere(context: contextlib.AbstractAsyncContextManager[Octopus]) -> Iterator[Octopus]:
    """Hold an asynchronous context in a loop of its own, across the loops of the tests."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="platform", daemon=True)
    thread.start()

    def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(work(), loop).result()

    try:
        value = run(context.__aenter__)
        try:
            yield value
        finally:
            run(lambda: context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
