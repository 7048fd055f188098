"""The database on a real PostgreSQL that is killed and restarted."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import psycopg
import pytest
from octopus.errors.v1 import errors_pb2

from mesh.errors import refused_from
from mesh.identity.files import Identity
from mesh.stores import postgres
from mesh.stores.errors import TooSlow, Unavailable, Unstorable
from mesh.stores.postgres import Database
from mesh.testing import Platform

pytestmark = pytest.mark.store


@pytest.fixture
async def table(migrated: Platform) -> AsyncIterator[None]:
    """A table as the services have them."""
    await migrated.postgres.execute(
        "CREATE TABLE cs_probe (tenant_id text NOT NULL, number int UNIQUE);"
        "ALTER TABLE cs_probe ENABLE ROW LEVEL SECURITY;"
        "ALTER TABLE cs_probe FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY own_tenant ON cs_probe USING (tenant_id = current_setting('octopus.tenant', true))"
        " WITH CHECK (tenant_id = current_setting('octopus.tenant', true));"
        "CREATE POLICY every_tenant ON cs_probe FOR SELECT USING (current_setting('octopus.tenant', true) = '*');"
        "GRANT SELECT, INSERT ON cs_probe TO octopus_session"
    )
    yield
    await migrated.postgres.execute("DROP TABLE cs_probe")


@pytest.fixture
async def db(migrated: Platform, table: None) -> AsyncIterator[Database]:
    identity = Identity(migrated.identity, "session")
    async with postgres.connect(migrated.postgres.conninfo, identity, statement_timeout_s=1) as database:
        yield database


async def tcp_options(conninfo: str, identity: Identity) -> dict[str, int]:
    """Return what the kernel was told of connections that are lost without a word."""
    async with postgres.connect(conninfo, identity) as database:
        options = {"TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"}
        found = []
        async with database.dedicated() as alone, database.tenant("a") as pooled:
            for conn in (alone, pooled):
                with socket.socket(fileno=os.dup(conn.pgconn.socket)) as line:
                    found.append({each: line.getsockopt(socket.IPPROTO_TCP, getattr(socket, each)) for each in options})
        assert found[0] == found[1]
        return found[0]


async def test_a_server_that_vanishes_without_a_word_is_noticed_by_tcp(migrated: Platform) -> None:
    identity = Identity(migrated.identity, "session")
    usual = await tcp_options(migrated.postgres.conninfo, identity)
    assert usual == {"TCP_USER_TIMEOUT": 5000, "TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
    set_otherwise = migrated.postgres.conninfo + " tcp_user_timeout=3000 keepalives_count=4"
    assert await tcp_options(set_otherwise, identity) == usual | {"TCP_USER_TIMEOUT": 3000, "TCP_KEEPCNT": 4}


async def insert(db: Database, tenant: str, number: int, *, as_tenant: str | None = None) -> None:
    async with db.tenant(tenant) as conn:
        await conn.execute("INSERT INTO cs_probe VALUES (%s, %s)", (as_tenant or tenant, number))


async def numbers(db: Database, tenant: str) -> list[int]:
    async with db.tenant(tenant) as conn:
        return [number for (number,) in await (await conn.execute("SELECT number FROM cs_probe ORDER BY 1")).fetchall()]


async def test_a_tenant_sees_and_writes_its_own_rows_only(db: Database) -> None:
    await insert(db, "a", 1)
    await insert(db, "b", 2)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await insert(db, "a", 3, as_tenant="b")

    assert await numbers(db, "a") == [1]
    assert await numbers(db, "b") == [2]


async def test_every_tenant_reads_all_and_writes_nothing(db: Database) -> None:
    await insert(db, "a", 1)
    await insert(db, "b", 2)
    async with db.every_tenant() as conn:
        cursor = await conn.execute("SELECT number FROM cs_probe ORDER BY 1")
        assert await cursor.fetchall() == [(1,), (2,)]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 3)")


async def test_a_connection_without_a_tenant_sees_nothing(db: Database) -> None:
    await insert(db, "a", 1)
    async with db.dedicated() as conn:
        assert await (await conn.execute("SELECT * FROM cs_probe")).fetchall() == []


async def test_what_is_no_tenant_is_refused(db: Database) -> None:
    for wrong in ("", "*", "A", "a'; --", "x" * 33):
        with pytest.raises(ValueError, match="not a tenant id"):
            async with db.tenant(wrong):
                pass


async def test_an_exception_rolls_back_and_the_connection_serves_on(db: Database) -> None:
    with pytest.raises(RuntimeError):
        async with db.tenant("a") as conn:
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")
            raise RuntimeError
    await insert(db, "a", 2)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await insert(db, "b", 2)

    assert await numbers(db, "a") == [2]


async def test_a_cancelled_transaction_is_rolled_back(db: Database) -> None:
    async def work() -> None:
        async with db.tenant("a") as conn:
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")
            await conn.execute("SELECT pg_sleep(0.9)")

    for _ in range(15):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await numbers(db, "a") == []


async def test_a_slow_statement_is_cut_off(db: Database) -> None:
    with pytest.raises(TooSlow) as slow:
        async with db.tenant("a") as conn:
            await conn.execute("SELECT pg_sleep(5)")

    assert refused_from(slow.value).reason == errors_pb2.REASON_DEADLINE_EXCEEDED


@pytest.mark.parametrize("value", ["with\0in", ["well", "with\0in"]], ids=["text", "list"])
async def test_a_text_that_cannot_be_kept_is_the_callers_mistake(db: Database, value: object) -> None:
    with pytest.raises(Unstorable, match="NUL") as unstorable:
        async with db.tenant("a") as conn:
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")
            await conn.execute("SELECT %s", [value])

    assert refused_from(unstorable.value).reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert await numbers(db, "a") == []


async def test_what_the_server_finds_wrong_with_data_stays_a_mistake_of_ours(db: Database) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation) as wrong:
        async with db.tenant("a") as conn:
            await conn.execute("SELECT 'NUL'::int")

    assert refused_from(wrong.value).reason == errors_pb2.REASON_INTERNAL


async def test_a_savepoint_inside_a_transaction_can_be_rolled_back_alone(db: Database) -> None:
    async with db.tenant("a") as conn:
        await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with conn.transaction():
                await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")

    assert await numbers(db, "a") == [1]


async def test_connections_that_died_in_the_pool_are_not_noticed(migrated: Platform, db: Database) -> None:
    await asyncio.gather(*(insert(db, "a", number) for number in range(8)))
    await migrated.postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'octopus_session'"
    )

    await asyncio.gather(*(insert(db, "a", number) for number in range(8, 24)))

    assert await numbers(db, "a") == list(range(24))


async def test_the_database_going_away_is_said_and_its_return_is_noticed_within_seconds(
    migrated: Platform, db: Database
) -> None:
    await insert(db, "a", 1)
    await migrated.postgres.kill()
    refused = await asyncio.gather(*(numbers(db, "a") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in refused)
    assert isinstance(refused[0], Unavailable)
    assert refused_from(refused[0]).reason == errors_pb2.REASON_UNAVAILABLE

    await migrated.postgres.start()
    # A pool that waits longer and longer would take a minute.
    async with asyncio.timeout(15):
        while True:
            try:
                assert await numbers(db, "a") == [1]
                break
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_commit_that_gets_no_answer_is_unavailable(migrated: Platform, db: Database) -> None:
    with pytest.raises(Unavailable):
        async with db.tenant("a") as conn:
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")
            await migrated.postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'octopus_session'"
            )

    assert await numbers(db, "a") == []


async def test_losing_the_database_in_a_transaction_is_unavailable(migrated: Platform, db: Database) -> None:
    with pytest.raises(Unavailable):
        async with db.tenant("a") as conn:
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 1)")
            await migrated.postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'octopus_session'"
            )
            await conn.execute("INSERT INTO cs_probe VALUES ('a', 2)")

    assert await numbers(db, "a") == []


async def test_a_process_may_start_before_its_database(migrated: Platform, table: None) -> None:
    await migrated.postgres.kill()
    try:
        identity = Identity(migrated.identity, "session")
        async with postgres.connect(migrated.postgres.conninfo, identity) as db:
            with pytest.raises(Unavailable):
                await db.ping()
            await migrated.postgres.start()
            await db.ping()
    finally:
        if migrated.postgres.pid is None:
            await migrated.postgres.start()
