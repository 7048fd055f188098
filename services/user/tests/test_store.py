"""Rows of the user service in a real PostgreSQL: sealed, kept apart by shop, and changed by one at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from mesh.process.member import Member
from mesh.stores.keyring import KeyringError
from mesh.testing import Platform
from services.user import domain
from services.user.app import Parts
from services.user.credentials import known_addresses
from services.user.domain import AlreadyExists, Invalid, Kind, NotFound, Role
from services.user.people.directory import NewUser, UserChange
from services.user.tests.conftest import PASSWORD, SECRET, Shop, open_shop

pytestmark = pytest.mark.store

TABLES = ("cs_tenant", "cs_user", "cs_user_tag", "cs_credential", "cs_refresh_token", "cs_user_outbox")


def partner(client_id: str, *scopes: str, request_id: str = "") -> NewUser:
    return NewUser(
        request_id=request_id or f"request-{client_id}",
        kind=Kind.PARTNER,
        external_id=client_id,
        display_name="ERP",
        roles=[Role.PARTNER],
        password=PASSWORD,
        scopes=scopes,
    )


async def test_a_created_user_is_found_as_it_was_created(shop: Shop) -> None:
    made = await shop.staff("xiaolin", Role.AGENT, Role.SUPERVISOR)
    found = await shop.parts.directory.find(shop.tenant_id, made.id)
    assert found == made
    assert (found.kind, found.roles, found.display_name) == (Kind.STAFF, (Role.AGENT, Role.SUPERVISOR), "小林")


async def test_the_same_request_makes_one_user_however_often_it_comes(shop: Shop) -> None:
    users = await asyncio.gather(*(shop.staff("busy") for _ in range(5)))
    assert len({user.id for user in users}) == 1
    listed = await shop.parts.directory.page(shop.tenant_id, after_id=0, limit=10, kind=0, tag="")
    assert [user.id for user in listed] == [users[0].id]


async def test_a_taken_name_is_refused_but_not_of_another_kind_or_shop(shop: Shop) -> None:
    await shop.parts.directory.create(shop.tenant_id, partner("same.name"))
    with pytest.raises(AlreadyExists):
        await shop.parts.directory.create(shop.tenant_id, partner("same.name", request_id="another-request"))
    await shop.staff("same.name")
    other = await open_shop(shop.parts)
    await other.staff("same.name")


async def test_a_user_without_a_right_kind_leaves_nothing_behind(shop: Shop) -> None:
    with pytest.raises(Invalid):
        await shop.staff("wrong", Role.PARTNER)
    listed = await shop.parts.directory.page(shop.tenant_id, after_id=0, limit=10, kind=0, tag="")
    assert listed == []


async def test_a_shops_users_do_not_exist_for_another_shop(shop: Shop) -> None:
    made = await shop.staff()
    other = await open_shop(shop.parts)
    for attempt in (
        other.parts.directory.find(other.tenant_id, made.id),
        other.parts.directory.change(other.tenant_id, made.id, UserChange(disabled=True), actor_id=1),
        other.parts.directory.set_tags(other.tenant_id, made.id, ["vip"]),
    ):
        with pytest.raises(NotFound):
            await attempt


@pytest.mark.parametrize("table", TABLES)
async def test_without_a_tenant_a_query_sees_nothing(
    table: str, shop: Shop, migrated: Platform, member: Member
) -> None:
    user = await shop.staff()
    await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    await shop.parts.directory.set_tags(shop.tenant_id, user.id, ["vip"])
    there = (await migrated.postgres.execute(f"SELECT count(*) FROM pg_class WHERE relname = '{table}'"))[0][0]  # noqa: S608  # a name of ours
    assert there == 1
    async with await psycopg.AsyncConnection.connect(
        migrated.postgres.conninfo,
        autocommit=True,
        **member.identity.libpq(),  # type: ignore[arg-type]  # connection parameters
    ) as conn:
        for setting in ("", "SET octopus.tenant = 'nobody'", "SET octopus.tenant = ''"):
            if setting:
                await conn.execute(setting.encode())
            rows = await (await conn.execute(f"SELECT * FROM {table}".encode())).fetchall()  # noqa: S608  # as above
            assert rows == []
        await conn.execute(f"SET octopus.tenant = '{shop.tenant_id}'".encode())
        rows = await (await conn.execute(f"SELECT tenant_id FROM {table}".encode())).fetchall()  # noqa: S608
        assert {row[0] for row in rows} == {shop.tenant_id}


async def test_no_shop_can_write_a_row_of_another(shop: Shop) -> None:
    other = await open_shop(shop.parts)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with shop.parts.db.tenant(shop.tenant_id) as conn:
            await conn.execute(
                "INSERT INTO cs_user_tag (tenant_id, user_id, tag) VALUES (%s, 1, 'x')", [other.tenant_id]
            )


async def test_signing_keys_are_no_shops(shop: Shop) -> None:
    await shop.parts.keys.turn()
    async with shop.parts.db.tenant(shop.tenant_id) as conn:
        assert await (await conn.execute("SELECT 1 FROM cs_signing_key")).fetchall() == []


async def test_every_table_of_the_service_forces_row_level_security(migrated: Platform) -> None:
    rows = await migrated.postgres.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity AND relforcerowsecurity"
    )
    assert {*TABLES, "cs_signing_key"} <= {name for (name,) in rows}


async def test_a_phone_is_sealed_and_comes_back(shop: Shop, migrated: Platform) -> None:
    user = await shop.staff()
    changed = await shop.parts.directory.change(shop.tenant_id, user.id, UserChange(phone="+8613812345678"), actor_id=1)
    assert changed.phone == "+8613812345678"
    assert (await shop.parts.directory.find(shop.tenant_id, user.id)).phone == "+8613812345678"
    [(stored,)] = await migrated.postgres.execute(f"SELECT phone FROM cs_user WHERE id = {user.id}")  # noqa: S608
    assert b"13812345678" not in stored
    cleared = await shop.parts.directory.change(shop.tenant_id, user.id, UserChange(phone=""), actor_id=1)
    assert cleared.phone == ""


async def test_a_phone_moved_to_another_user_does_not_open(shop: Shop, migrated: Platform) -> None:
    one, two = await shop.staff("one"), await shop.staff("two")
    await shop.parts.directory.change(shop.tenant_id, one.id, UserChange(phone="+8613812345678"), actor_id=1)
    await migrated.postgres.execute(
        f"UPDATE cs_user SET phone = (SELECT phone FROM cs_user WHERE id = {one.id}) WHERE id = {two.id}"  # noqa: S608
    )
    with pytest.raises(KeyringError):
        await shop.parts.directory.find(shop.tenant_id, two.id)


async def test_the_identity_secret_is_sealed(shop: Shop, migrated: Platform) -> None:
    [(stored,)] = await migrated.postgres.execute(
        f"SELECT identity_secret FROM cs_tenant WHERE tenant_id = '{shop.tenant_id}'"  # noqa: S608
    )
    assert SECRET not in stored
    async with shop.parts.db.tenant(shop.tenant_id) as conn:
        assert await shop.parts.users.identity_secret(conn, shop.tenant_id) == SECRET


async def test_a_change_leaves_the_other_fields(shop: Shop) -> None:
    user = await shop.staff()
    await shop.parts.directory.change(
        shop.tenant_id, user.id, UserChange(capacity=9, phone="+8613812345678"), actor_id=1
    )
    changed = await shop.parts.directory.change(shop.tenant_id, user.id, UserChange(display_name="林小姐"), actor_id=1)
    assert (changed.display_name, changed.capacity, changed.phone) == ("林小姐", 9, "+8613812345678")
    partner_user = await shop.parts.directory.create(shop.tenant_id, partner("erp-1"))
    with pytest.raises(Invalid):
        await shop.parts.directory.change(shop.tenant_id, partner_user.id, UserChange(capacity=1), actor_id=1)


async def test_tags_are_replaced_as_a_set(shop: Shop) -> None:
    user = await shop.staff()
    assert (await shop.parts.directory.set_tags(shop.tenant_id, user.id, ["老客户", "vip"])).tags == ("vip", "老客户")
    await shop.parts.directory.set_tags(shop.tenant_id, user.id, ["vip", "大码"])
    assert (await shop.parts.directory.find(shop.tenant_id, user.id)).tags == ("vip", "大码")
    assert (await shop.parts.directory.set_tags(shop.tenant_id, user.id, [])).tags == ()


async def test_pages_hold_every_user_once_oldest_first(shop: Shop) -> None:
    made = [await shop.staff(f"agent-{number}") for number in range(5)]
    seen: list[int] = []
    while users := await shop.parts.directory.page(
        shop.tenant_id, after_id=seen[-1] if seen else 0, limit=2, kind=0, tag=""
    ):
        seen += [user.id for user in users]
    assert seen == [user.id for user in made]


async def test_pages_can_be_of_one_kind_and_of_one_tag(shop: Shop) -> None:
    agent = await shop.staff()
    erp = await shop.parts.directory.create(shop.tenant_id, partner("erp-1"))
    await shop.parts.directory.set_tags(shop.tenant_id, agent.id, ["vip"])
    directory = shop.parts.directory
    partners = await directory.page(shop.tenant_id, after_id=0, limit=9, kind=Kind.PARTNER, tag="")
    tagged = await directory.page(shop.tenant_id, after_id=0, limit=9, kind=0, tag="vip")
    assert ([user.id for user in partners], [user.id for user in tagged]) == ([erp.id], [agent.id])


async def test_an_ended_token_is_swept_and_a_living_one_is_not(parts: Parts, shop: Shop, migrated: Platform) -> None:
    user = await shop.staff()
    count = f"SELECT count(*) FROM cs_refresh_token WHERE user_id = {user.id}"  # noqa: S608
    await parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    await parts.refresh_tokens.sweep()
    assert await migrated.postgres.execute(count) == [(1,)]
    parts.sign_in.clock.advance(domain.REFRESH_LIFETIME + timedelta(seconds=1))  # type: ignore[attr-defined]
    await parts.refresh_tokens.sweep()
    assert await migrated.postgres.execute(count) == [(0,)]


async def test_an_address_is_forgotten_after_90_days_without_a_log_in(
    parts: Parts, shop: Shop, migrated: Platform
) -> None:
    user = await shop.staff()
    count = f"SELECT count(*) FROM cs_login_address WHERE user_id = {user.id}"  # noqa: S608
    await parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD, address="192.0.2.1")
    now = parts.sign_in.clock()
    await known_addresses.sweep(parts.db, now + domain.ADDRESS_KNOWN - timedelta(seconds=1))
    assert await migrated.postgres.execute(count) == [(1,)]
    await known_addresses.sweep(parts.db, now + domain.ADDRESS_KNOWN + timedelta(seconds=1))
    assert await migrated.postgres.execute(count) == [(0,)]
