"""The outbox between a real PostgreSQL and a real NATS, both of which are broken in the middle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry

from mesh.bus import Bus, StoredMessage, decode
from mesh.bus import outbox as outbox_module
from mesh.bus.outbox import Outbox
from mesh.bus.tests.members import entry, member, until
from mesh.identity.files import Identity
from mesh.stores import errors, postgres
from mesh.stores.postgres import Database
from mesh.testing import Platform

pytestmark = pytest.mark.store

TABLE = "cs_session_outbox"
NEWS = 20


@pytest.fixture
async def db(migrated: Platform) -> AsyncIterator[Database]:
    """The database as the session service sees it, with an empty outbox."""
    await migrated.postgres.truncate()
    async with postgres.connect(migrated.postgres.conninfo, Identity(migrated.identity, "session")) as database:
        yield database


@pytest.fixture
async def session(migrated: Platform) -> AsyncIterator[Bus]:
    async with member(migrated, "session") as bus:
        yield bus


async def left(db: Database) -> int:
    async with db.every_tenant() as conn:
        row = await (await conn.execute(f"SELECT count(*) FROM {TABLE}")).fetchone()  # noqa: S608  # a constant
    assert row is not None
    return int(row[0])


async def stored(bus: Bus, subject: str) -> list[StoredMessage]:
    return await bus.read(subject, after_seq=0, limit=5000)


def numbers(messages: list[StoredMessage]) -> list[int]:
    return [decode(each.data, each.headers, LogEntry).message.id for each in messages]


async def until_published(db: Database) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if await left(db) == 0:
                    return
            except errors.Unavailable:
                pass
            await asyncio.sleep(0.02)


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def add(db: Database, outbox: Outbox, tenant: str, subject: str, number: int) -> None:
    """Adds until it is known to be committed: what a caller does whose call failed as unavailable."""
    while True:
        try:
            async with db.tenant(tenant) as conn:
                await outbox.add(conn, subject, entry(number), f"{subject}-{number}")
        except errors.Unavailable:
            await asyncio.sleep(0.1)
        else:
            return


async def test_what_is_committed_is_published_soon_and_what_is_rolled_back_never(
    db: Database, session: Bus, tenant: str
) -> None:
    outbox = Outbox(db, TABLE)
    subject = f"log.{tenant}.1"
    relay = asyncio.create_task(outbox.relay(session))
    with pytest.raises(RuntimeError):
        async with db.tenant(tenant) as conn:
            await outbox.add(conn, subject, entry(1), f"{tenant}-1")
            raise RuntimeError("changed my mind")
    async with db.tenant(tenant) as conn:
        await outbox.add(conn, subject, entry(2), f"{tenant}-2")
    await until_published(db)

    # Less than the pauses of a relay that only looks now and then would add up to.
    async with asyncio.timeout(0.75 * NEWS * outbox_module._SIGN_OF_LIFE_S):
        for number in range(3, 3 + NEWS):
            async with db.tenant(tenant) as conn:
                await outbox.add(conn, subject, entry(number), f"{tenant}-{number}")
            while not (last := await session.last(subject)) or numbers([last]) != [number]:
                await asyncio.sleep(0.001)
    await until_published(db)
    await stop(relay)

    assert numbers(await stored(session, subject)) == list(range(2, 3 + NEWS))
    assert await left(db) == 0


async def test_every_row_is_in_the_stream_once_and_in_order_though_both_stores_are_killed(
    migrated: Platform, db: Database, session: Bus, tenant: str
) -> None:
    sessions, each = 5, 120
    outbox = Outbox(db, TABLE)
    written: list[int] = []
    last_kill = asyncio.Event()

    async def write(number_of_session: int) -> None:
        for number in range(each):
            if number == each - 20:
                # However fast they write, some of it falls between the last kill and the new start.
                await last_kill.wait()
            await add(db, outbox, tenant, f"log.{tenant}.{number_of_session}", number)
            written.append(number)

    async with AsyncExitStack() as stack:
        relays = []
        # Three copies of the service, each with connections of its own.
        for _ in range(3):
            identity = Identity(migrated.identity, "session")
            own_db = await stack.enter_async_context(postgres.connect(migrated.postgres.conninfo, identity))
            own_bus = await stack.enter_async_context(member(migrated, "session"))
            relays.append(asyncio.create_task(Outbox(own_db, TABLE).relay(own_bus)))
        writers = [asyncio.create_task(write(number)) for number in range(sessions)]

        await until(lambda: len(written) > 100)
        await migrated.postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'octopus_session'"
        )
        await until(lambda: len(written) > 200)
        await migrated.nats.kill()
        await until(lambda: len(written) > 300)
        await migrated.nats.start()
        await until(lambda: len(written) > 400)
        await migrated.postgres.kill()
        last_kill.set()
        await migrated.postgres.start()
        await asyncio.gather(*writers)
        await until_published(db)
        await stop(*relays)

    for number in range(sessions):
        assert numbers(await stored(session, f"log.{tenant}.{number}")) == list(range(each))


async def test_when_the_working_relay_ends_another_takes_over(
    migrated: Platform, db: Database, session: Bus, tenant: str
) -> None:
    outbox = Outbox(db, TABLE)
    first = asyncio.create_task(outbox.relay(session))
    await add(db, outbox, tenant, f"log.{tenant}.1", 1)
    await until_published(db)
    second = asyncio.create_task(outbox.relay(session))

    await stop(first)
    await add(db, outbox, tenant, f"log.{tenant}.1", 2)
    await until_published(db)
    await stop(second)

    assert numbers(await stored(session, f"log.{tenant}.1")) == [1, 2]


async def test_what_no_stream_takes_is_refused_before_it_is_written(db: Database, tenant: str) -> None:
    outbox = Outbox(db, TABLE)
    async with db.tenant(tenant) as conn:
        with pytest.raises(ValueError, match="no stream stores"):
            await outbox.add(conn, "nowhere.at.all", entry(1), "x")
        with pytest.raises(ValueError, match="more than"):
            await outbox.add(conn, f"log.{tenant}.1", LogEntry(tenant_id="x" * 1_100_000), "x")
    assert await left(db) == 0
