"""A store that is frozen: its callers hear so before their own time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from mesh import deadline
from mesh.identity.files import Identity
from mesh.process.config import ServiceConfig
from mesh.stores import budget, postgres, valkey
from mesh.stores.courtesy import Courtesy
from mesh.stores.errors import TooSlow, Unavailable
from mesh.stores.postgres import Database
from mesh.stores.valkey import Valkey
from mesh.testing import Platform

pytestmark = pytest.mark.store

# Less than what the stores take when nothing limits them.
SLACK_S = 2.0


@pytest.fixture
async def cache(platform: Platform) -> AsyncIterator[Valkey]:
    config = platform.config("session", ServiceConfig)
    assert config.valkey_password_file is not None
    async with valkey.connect(platform.valkey_url, "session", config.valkey_password_file) as client:
        await client.set("session:t:key", "1")
        yield client


@pytest.fixture
async def db(migrated: Platform) -> AsyncIterator[Database]:
    identity = Identity(migrated.identity, "session")
    async with postgres.connect(migrated.postgres.conninfo, identity, statement_timeout_s=4) as database:
        await database.ping()
        yield database


@contextmanager
def rpc(seconds: float) -> Iterator[None]:
    """Serve a call that ends in so many seconds; fail when the block outlasts it by what a busy machine may add."""
    begun = time.monotonic()
    before = deadline.ends_at.set(begun + seconds)
    try:
        yield
    finally:
        deadline.ends_at.reset(before)
        assert time.monotonic() - begun < seconds + SLACK_S


async def select(db: Database) -> None:
    async with db.tenant("a") as conn:
        await conn.execute("SELECT 1")


def test_a_store_call_leaves_the_handler_time_to_answer() -> None:
    assert budget.seconds(3.0) == 3.0
    with rpc(1.0):
        assert 0.1 < budget.seconds(3.0) <= 1.0 - budget.RESERVE
        assert budget.seconds(0.1) == 0.1
    with rpc(0.1):
        assert 0 < budget.seconds(3.0) < 0.1


async def test_a_frozen_valkey_answers_before_the_call_ends_and_goes_on_afterwards(
    platform: Platform, cache: Valkey
) -> None:
    script = cache.register_script("return 1")
    await script(keys=[], args=[])

    async def pipelined() -> None:
        async with cache.pipeline() as pipe:
            pipe.get("session:t:key")
            await pipe.execute()

    async def scripted() -> None:
        await script(keys=[], args=[])

    async def command() -> None:
        await cache.get("session:t:key")

    platform.valkey.pause()
    try:
        for call in (command, scripted, pipelined):
            with rpc(0.8), pytest.raises(Unavailable):
                await call()
        with rpc(10.0), pytest.raises(Unavailable):
            await command()
    finally:
        platform.valkey.resume()
    assert await cache.get("session:t:key") == "1"


async def test_a_frozen_postgres_answers_before_the_call_ends_and_goes_on_afterwards(
    migrated: Platform, db: Database
) -> None:
    try:
        with pytest.raises(Unavailable):
            async with db.tenant("a") as conn:
                await conn.execute("SELECT 1")
                migrated.postgres.pause()
                # In the middle of a transaction, at its beginning, and when the pool has to open another connection.
                with rpc(0.8):
                    await conn.execute("SELECT 2")
        for _ in range(3):
            with rpc(0.8), pytest.raises(Unavailable):
                await select(db)
    finally:
        migrated.postgres.resume()
    await eventually(lambda: select(db))


async def test_a_frozen_postgres_holds_no_background_job_for_long(migrated: Platform, db: Database) -> None:
    migrated.postgres.pause()
    try:
        async with asyncio.timeout(15):
            with pytest.raises(Unavailable):
                await select(db)
    finally:
        migrated.postgres.resume()
    await eventually(lambda: select(db))


async def test_a_statement_slower_than_the_call_is_cancelled_by_the_server(db: Database) -> None:
    # Time enough for a busy machine to see the server's own end before the connection is severed.
    with rpc(3.5), pytest.raises(TooSlow):
        async with db.tenant("a") as conn:
            await conn.execute("SELECT pg_sleep(20)")
    # The limit was that call's own.
    async with db.tenant("a") as conn:
        assert await (await conn.execute("SHOW statement_timeout")).fetchall() == [("4s",)]


async def test_a_courtesy_is_left_out_at_once_after_it_failed(platform: Platform, cache: Valkey) -> None:
    courtesy = Courtesy("a test", within_s=0.3, rest_s=3)

    async def value() -> str | None:
        return str(await cache.get("session:t:key"))

    async def attempt() -> str | None:
        return await courtesy.attempt(value, None)

    assert await attempt() == "1"
    platform.valkey.pause()
    try:
        begun = time.monotonic()
        assert [await attempt() for _ in range(20)] == [None] * 20
        # One attempt, not twenty of 0.3 s.
        assert time.monotonic() - begun < 5
    finally:
        platform.valkey.resume()

    async def works() -> None:
        if await attempt() is None:
            raise Unavailable("not yet")

    await eventually(works)


async def eventually(call: Callable[[], Awaitable[None]], within: float = 30) -> None:
    async with asyncio.timeout(within):
        while True:
            try:
                await call()
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return
