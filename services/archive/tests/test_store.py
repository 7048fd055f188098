"""Messages in a real PostgreSQL: once, sealed, and kept apart by shop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from mesh.process.member import Member
from mesh.stores.errors import Unstorable
from mesh.stores.keyring import Keyring, KeyringError, add_key, key_id_of
from mesh.stores.postgres import Database
from mesh.testing import Platform
from services.archive.domain import Archived
from services.archive.store import ArchiveStore
from services.archive.tests.conftest import new_id, new_tenant

pytestmark = pytest.mark.store


def messages(tenant_id: str, session_id: int, count: int, *, customer_id: int = 7) -> list[Archived]:
    now = datetime.now(UTC)
    return [
        Archived(tenant_id, session_id, seq, new_id(), customer_id, 1, customer_id, now, f"说的话 {seq}".encode())
        for seq in range(1, count + 1)
    ]


async def add(db: Database, store: ArchiveStore, *kept: Archived) -> None:
    async with db.tenant(kept[0].tenant_id) as conn:
        await store.add(conn, kept[0].tenant_id, kept)


async def page(
    db: Database, store: ArchiveStore, tenant_id: str, session_id: int, *, before: int | None = None, limit: int = 100
) -> list[Archived]:
    async with db.tenant(tenant_id) as conn:
        return await store.page(conn, tenant_id, session_id, before_seq=before, limit=limit)


async def test_messages_come_back_newest_first_and_by_page(db: Database, store: ArchiveStore) -> None:
    kept = messages(new_tenant(), new_id(), 5)
    await add(db, store, *kept)
    tenant_id, session_id = kept[0].tenant_id, kept[0].session_id
    assert await page(db, store, tenant_id, session_id) == kept[::-1]
    assert await page(db, store, tenant_id, session_id, limit=2) == [kept[4], kept[3]]
    assert await page(db, store, tenant_id, session_id, before=3) == [kept[1], kept[0]]


async def test_adding_again_changes_nothing(db: Database, store: ArchiveStore) -> None:
    kept = messages(new_tenant(), new_id(), 3)
    await add(db, store, *kept[:2])
    await add(db, store, *kept, *kept)
    assert await page(db, store, kept[0].tenant_id, kept[0].session_id) == kept[::-1]


async def test_an_authors_own_id_is_kept_as_it_is(db: Database, store: ArchiveStore) -> None:
    ids = ['a"b', "a\\b", "\\", "{}", "a,b", "NULL", "null", " a ", "汉字🙂", "a\nb", '\\"', None]
    kept = [
        replace(message, client_message_id=own)
        for message, own in zip(messages(new_tenant(), new_id(), len(ids)), ids, strict=True)
    ]
    await add(db, store, *kept)
    assert await page(db, store, kept[0].tenant_id, kept[0].session_id) == kept[::-1]


async def test_adding_tells_how_many_are_new(db: Database, store: ArchiveStore) -> None:
    kept = messages(new_tenant(), new_id(), 3)
    async with db.tenant(kept[0].tenant_id) as conn:
        assert await store.add(conn, kept[0].tenant_id, kept[:2]) == 2
        assert await store.add(conn, kept[0].tenant_id, kept) == 1


async def test_an_id_that_cannot_be_stored_is_refused(db: Database, store: ArchiveStore) -> None:
    [kept] = messages(new_tenant(), new_id(), 1)
    with pytest.raises(Unstorable):
        await add(db, store, replace(kept, client_message_id="a\0b"))


async def test_a_message_at_a_taken_position_is_not_known_and_does_not_replace(
    db: Database, store: ArchiveStore
) -> None:
    [kept] = messages(new_tenant(), new_id(), 1)
    other = replace(kept, message_id=new_id(), body=b"another")
    await add(db, store, kept)
    await add(db, store, other)
    async with db.tenant(kept.tenant_id) as conn:
        assert await store.known(conn, kept.tenant_id, [kept, other]) == {(kept.session_id, kept.message_id)}
    assert await page(db, store, kept.tenant_id, kept.session_id) == [kept]


async def test_what_was_said_is_nowhere_in_the_clear(db: Database, store: ArchiveStore, migrated: Platform) -> None:
    [kept] = messages(new_tenant(), new_id(), 1)
    await add(db, store, kept)
    [(row, body)] = await migrated.postgres.execute(
        f"SELECT m::text, body FROM cs_message m WHERE session_id = {kept.session_id}"  # noqa: S608  # a number
    )
    assert "说的话" not in row
    assert kept.body not in body
    assert key_id_of(body) == "k1"


async def test_a_body_moved_to_another_place_does_not_open(
    db: Database, store: ArchiveStore, migrated: Platform
) -> None:
    kept = messages(new_tenant(), new_id(), 2)
    await add(db, store, *kept)
    session_id = kept[0].session_id
    await migrated.postgres.execute(
        f"UPDATE cs_message SET body = (SELECT body FROM cs_message WHERE session_id = {session_id} AND seq = 1)"  # noqa: S608
        f" WHERE session_id = {session_id} AND seq = 2"
    )
    with pytest.raises(KeyringError):
        await page(db, store, kept[0].tenant_id, session_id)


async def test_after_a_rotation_old_messages_open_and_new_ones_use_the_new_key(
    db: Database, migrated: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "keyring"
    add_key(file)
    kept = messages(new_tenant(), new_id(), 2)
    before = ArchiveStore(Keyring(file))
    await add(db, before, kept[0])
    add_key(file)
    after = ArchiveStore(Keyring(file))
    await add(db, after, kept[1])
    for store in (before, after):
        assert await page(db, store, kept[0].tenant_id, kept[0].session_id) == kept[::-1]
    rows = await migrated.postgres.execute(
        f"SELECT body FROM cs_message WHERE session_id = {kept[0].session_id} ORDER BY seq"  # noqa: S608
    )
    assert [key_id_of(body) for (body,) in rows] == ["k1", "k2"]


async def test_another_shop_sees_nothing(db: Database, store: ArchiveStore) -> None:
    [kept] = messages(new_tenant(), new_id(), 1)
    await add(db, store, kept)
    other = new_tenant()
    assert await page(db, store, other, kept.session_id) == []
    async with db.tenant(other) as conn:
        assert await store.page(conn, other, kept.session_id, before_seq=None, limit=10) == []
        # Even a query that names the other shop.
        assert await store.page(conn, kept.tenant_id, kept.session_id, before_seq=None, limit=10) == []


async def test_without_a_tenant_a_query_sees_nothing(
    db: Database, store: ArchiveStore, migrated: Platform, member: Member
) -> None:
    [kept] = messages(new_tenant(), new_id(), 1)
    await add(db, store, kept)
    credentials = member.identity.libpq()
    async with await psycopg.AsyncConnection.connect(
        migrated.postgres.conninfo,
        autocommit=True,
        **credentials,  # type: ignore[arg-type]  # connection parameters
    ) as conn:
        for setting in ("SELECT 1", "SET octopus.tenant = 'nobody'", "SET octopus.tenant = '*'"):
            await conn.execute(setting.encode())
            assert await (await conn.execute(b"SELECT * FROM cs_message")).fetchall() == []
        await conn.execute(f"SET octopus.tenant = '{kept.tenant_id}'".encode())
        assert len(await (await conn.execute(b"SELECT * FROM cs_message")).fetchall()) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cs_message SET customer_id = 0",
        "DELETE FROM cs_message",
        "SELECT * FROM cs_message_00",
        "SELECT * FROM cs_user",
    ],
)
async def test_the_service_may_only_add(statement: str, db: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with db.tenant(new_tenant()) as conn:
            await conn.execute(statement.encode())


async def test_there_are_sixteen_partitions_and_sessions_spread_over_them(migrated: Platform) -> None:
    partitions = await migrated.postgres.execute(
        "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname ~ '^cs_message_[0-9]{2}$'"
    )
    assert len(partitions) == 16
    assert all(forced for _, forced in partitions)
