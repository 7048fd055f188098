"""The pytest plugin: fixtures `platform` and `migrated`. How to use them stands in the package's docstring."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator

import pytest

from mesh.testing.platform import Platform


def _run(work: Coroutine[object, object, None]) -> None:
    # A loop of its own, not asyncio.run: that would take away the loop pytest-asyncio has set.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Real PostgreSQL, Valkey and NATS, shared by all tests of the session."""
    running = Platform()
    try:
        _run(running.start())
        yield running
    finally:
        _run(running.stop())


@pytest.fixture(autouse=True)
def _whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start what a test has left stopped or frozen because it failed in between: it shall fail alone."""
    running: Platform | None = request.getfixturevalue("platform") if "platform" in request.fixturenames else None
    yield
    if running is not None:
        for component in running.components:
            component.resume()
            if component.pid is None:
                _run(component.start())


@pytest.fixture(scope="session")
def migrated(platform: Platform) -> Platform:
    """The platform with all of db/migrations applied."""
    _run(platform.postgres.migrate())
    return platform
