"""One platform for all tests from outside: two copies of what matters, demo data, real components."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from e2e.clients.edge import Edge
from e2e.clients.grpc_web import GrpcWebClient, grpc_web_client
from e2e.people import Shop
from e2e.running import Octopus, running
from mesh.testing.ports import free_port

ARTIFACTS = Path(__file__).parent / "artifacts"


@pytest.fixture(scope="package")
def octopus() -> Iterator[Octopus]:
    """The platform with two copies of chat, session and bridge, for all tests of e2e. Its logs are kept as artifacts.

    With $OCTOPUS_E2E_ROOT, one that runs already and goes on running: quick while writing a test.
    """
    if there := os.environ.get("OCTOPUS_E2E_ROOT"):
        yield Octopus(Path(there))
        return
    # Not pytest's own folder, which only its owner may enter: PostgreSQL runs as another user when we are root.
    root = Path(tempfile.mkdtemp(prefix="octopus-e2e-"))
    root.chmod(0o755)
    try:
        with _elsewhere(running(root, "--instances", "chat=2,session=2,bridge=2", *_traced())) as platform:
            yield platform
    finally:
        shutil.copytree(root / "log", ARTIFACTS / "log", dirs_exist_ok=True)
        shutil.rmtree(root, ignore_errors=True)


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


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser(octopus: Octopus, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GrpcWebClient]:
    """A gRPC-Web client, in a process of its own."""
    async with grpc_web_client(octopus.edge, tmp_path_factory.mktemp("grpcweb")) as client:
        yield client


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and the like are kept."""
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


def _traced() -> Iterator[str]:
    """Let some members send the traces that a test begins, and no others, to a collector that a test may run."""
    collector = f"http://127.0.0.1:{free_port()}"
    for member in ("chat", "bot", "knowledge", "archive"):
        yield from ("--set", f"{member}.otlp_endpoint={collector}", "--set", f"{member}.trace_ratio=0")


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
