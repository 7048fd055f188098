"""Signing keys are shared, published, rotated, and published again when they were lost."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from mesh.bus import BusError
from mesh.process.member import Member
from mesh.rpc.tokens import TokenVerifier
from mesh.stores.errors import Unavailable
from mesh.testing import Platform
from services.user import domain
from services.user.app import Parts, assemble
from services.user.config import UserConfig
from services.user.domain import Kind, Role, User
from services.user.tests.conftest import Clock, until
from services.user.tokens import access as access_tokens

pytestmark = pytest.mark.store


@pytest.fixture(autouse=True)
async def _no_keys(migrated: Platform, member: Member) -> None:
    await migrated.postgres.execute("TRUNCATE cs_signing_key")
    await member.bus.kv("keys").delete("jwks")


async def published(member: Member) -> list[str]:
    """The ids of the published keys, the newest first."""
    entry = await member.bus.kv("keys").get("jwks")
    if entry is None or entry.value is None:
        return []
    return [key["kid"] for key in json.loads(entry.value)["keys"]]


async def test_two_instances_share_one_key(member: Member, config: UserConfig, parts: Parts, clock: Clock) -> None:
    other = await assemble(member, config, clock=clock)
    await asyncio.gather(parts.keys.turn(), other.keys.turn())
    assert parts.keys.current() == other.keys.current()
    assert await published(member) == [parts.keys.current().kid]


async def test_a_token_is_verified_by_what_is_published(member: Member, parts: Parts, clock: Clock) -> None:
    await parts.keys.turn()
    entry = await member.bus.kv("keys").get("jwks")
    assert entry is not None
    verifier = TokenVerifier()
    verifier.load(entry.value or b"")
    user = User(7, "qingshan", Kind.STAFF, (Role.AGENT,), "小林", "xiaolin", clock())
    token, ends = access_tokens.sign(user, parts.keys.current(), clock())
    principal = verifier.verify(token)
    assert (principal.tenant_id, principal.user_id, principal.roles) == ("qingshan", 7, frozenset({Role.AGENT}))
    assert principal.expires_at == ends.timestamp()


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_after(
    member: Member, parts: Parts, clock: Clock
) -> None:
    await parts.keys.turn()
    old = parts.keys.current().kid
    clock.advance(timedelta(days=30, seconds=1))
    await parts.keys.turn()
    [new, *rest] = await published(member)
    assert (rest, parts.keys.current().kid) == ([old], old)
    clock.advance(domain.KEY_LEAD)
    assert parts.keys.current().kid == new
    clock.advance(domain.ACCESS_LIFETIME)
    await parts.keys.turn()
    assert await published(member) == [new, old]
    clock.advance(domain.KEY_TAIL)
    await parts.keys.turn()
    assert await published(member) == [new]


async def test_a_lost_key_set_is_published_again(member: Member, parts: Parts) -> None:
    await parts.keys.turn()
    before = await published(member)
    running = asyncio.create_task(parts.keys.run())
    try:
        await member.bus.kv("keys").delete("jwks")
        parts.keys.wake()

        async def is_back() -> bool:
            return await published(member) == before

        await until(is_back)
    finally:
        running.cancel()


async def test_the_private_key_is_sealed(migrated: Platform, parts: Parts) -> None:
    await parts.keys.turn()
    [(stored,)] = await migrated.postgres.execute("SELECT private_key FROM cs_signing_key")
    assert parts.keys.current().private_key not in stored
    assert parts.keys.current().private_key.hex() not in repr(parts.keys.current())


async def test_while_the_database_is_away_the_known_key_signs(migrated: Platform, parts: Parts) -> None:
    await parts.keys.turn()
    kid = parts.keys.current().kid
    running = asyncio.create_task(parts.keys.run())
    await migrated.postgres.stop()
    try:
        parts.keys.wake()
        await asyncio.sleep(0)
        assert parts.keys.current().kid == kid
        assert not running.done()
    finally:
        await migrated.postgres.start()

    async def turns() -> bool:
        try:
            await parts.keys.turn()
        except Unavailable:
            return False
        return True

    await until(turns, seconds=20)
    assert not running.done()
    assert parts.keys.current().kid == kid
    running.cancel()


async def test_after_the_bus_lost_everything_the_keys_are_published_again(
    member: Member, migrated: Platform, parts: Parts
) -> None:
    await parts.keys.turn()
    before = await published(member)
    forget = member.bus.on_reconnect(parts.keys.wake)
    running = asyncio.create_task(parts.keys.run())
    try:
        await migrated.nats.wipe()
        await migrated.nats.restart()

        async def is_back() -> bool:
            try:
                return await published(member) == before
            except BusError:
                return False

        await until(is_back, seconds=30)
    finally:
        forget()
        running.cancel()
