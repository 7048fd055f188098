"""Guessing passwords, on real stores: who guesses waits, and who knows the password gets in."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from mesh.process.member import Member
from mesh.stores.keyring import Keyring
from mesh.testing import Platform
from services.user import domain
from services.user.config import UserConfig
from services.user.domain import CredentialsWrong, LockedOut, TooManyVisitors
from services.user.people.visitor_rate import VisitorRate
from services.user.tests.conftest import PASSWORD, Shop, open_shop

pytestmark = pytest.mark.store

HOME, ELSEWHERE = "203.0.113.7", "198.51.100.1"
_addresses = (f"192.0.2.{number}" for number in count())


async def guess(shop: Shop, login: str = "xiaolin", *, address: str = ELSEWHERE) -> float:
    """Guess wrong and return 0, or how long the guesser has to wait."""
    try:
        await shop.parts.sign_in.log_in(shop.tenant_id, login, "wrong password", address=address)
    except CredentialsWrong:
        return 0.0
    except LockedOut as refused:
        return refused.retry_after
    raise AssertionError("a wrong password was right")


async def log_in(shop: Shop, login: str = "xiaolin", *, address: str = HOME) -> None:
    await shop.parts.sign_in.log_in(shop.tenant_id, login, PASSWORD, address=address)


async def test_who_guesses_waits_longer_and_longer_and_nobody_else_does(shop: Shop, member: Member) -> None:
    await shop.staff("xiaolin")
    waits = [await guess(shop) for _ in range(domain.GUESSES_AT_ADDRESS.free + 20)]
    assert not any(waits[: domain.GUESSES_AT_ADDRESS.free + 1])
    # On a slow machine some of the delays are over before the next guess.
    assert any(waits)
    # Refused attempts do not make it longer, so one who keeps trying gets in when the delay is over.
    valkey = await member.valkey()
    pair = shop.parts.sign_in.attempts.fingerprint(shop.tenant_id, "STAFF xiaolin", ELSEWHERE).hex()[:32]
    counted = await valkey.hget(f"user:guesses:{{{shop.tenant_id}}}:{pair}", "n")
    assert str(counted) == str(waits.count(0))
    await log_in(shop, address=HOME)
    assert await guess(shop, "xiaohong") == 0


async def test_the_delay_doubles_up_to_its_longest_and_ends(shop: Shop, member: Member) -> None:
    await shop.staff("xiaolin")
    limit = domain.GUESSES_AT_ADDRESS
    valkey = await member.valkey()
    expected = 0.0
    for failures in range(1, limit.free + 13):
        assert await guess(shop) == 0
        expected = domain.delay(failures, limit)
        if expected < 16:
            # Over before the next guess, on a slow machine.
            for key in [key async for key in valkey.scan_iter(f"user:guesses:*{shop.tenant_id}*")]:
                await valkey.hdel(key, "till")
            continue
        # Not the free ones any more: the next is refused, and does not count.
        wait = await guess(shop)
        assert expected - 12 < wait <= expected
        # The same as waiting, as far as Valkey is concerned.
        for key in [key async for key in valkey.scan_iter(f"user:guesses:*{shop.tenant_id}*")]:
            await valkey.hdel(key, "till")
    assert expected == limit.longest.total_seconds()
    await log_in(shop, address=ELSEWHERE)
    # What was guessed before is forgotten.
    assert await guess(shop) == 0


async def test_ten_guesses_by_anybody_keep_nobody_out_who_knows_the_password(shop: Shop) -> None:
    await shop.staff("xiaolin")
    for _ in range(3):
        for _ in range(10):
            await guess(shop)
        await log_in(shop, address=HOME)
        await log_in(shop, address=next(_addresses))


async def test_a_name_tried_from_many_addresses_slows_down_strangers_and_not_its_owner(shop: Shop) -> None:
    await shop.staff("xiaolin")
    await log_in(shop, address=HOME)
    waits = [await guess(shop, address=next(_addresses)) for _ in range(domain.GUESSES_OF_NAME.free + 10)]
    assert any(waits)
    assert max(waits) <= domain.GUESSES_OF_NAME.longest.total_seconds()
    for _ in range(3):
        await log_in(shop, address=HOME)
    # And another name is not concerned.
    await shop.staff("xiaohong")
    await log_in(shop, "xiaohong", address=next(_addresses))


async def test_an_address_that_tries_many_names_is_slowed_down(shop: Shop) -> None:
    waits = [
        await guess(shop, f"somebody-{number}", address=ELSEWHERE)
        for number in range(domain.GUESSES_OF_ADDRESS.free + 8)
    ]
    assert not any(waits[: domain.GUESSES_OF_ADDRESS.free])
    assert any(waits)
    assert await guess(shop, "somebody-new", address=HOME) == 0


async def test_somebody_at_the_owners_address_delays_them_for_half_a_minute_at_most(shop: Shop, member: Member) -> None:
    await shop.staff("xiaolin")
    await log_in(shop, address=HOME)
    valkey = await member.valkey()
    longest = 0.0
    for _ in range(20):
        longest = max(longest, await guess(shop, address=HOME))
        for key in [key async for key in valkey.scan_iter(f"user:guesses:*{shop.tenant_id}*")]:
            longest = max(longest, await guess(shop, address=HOME))
            await valkey.hdel(key, "till")
    assert 0 < longest <= domain.GUESSES_AT_KNOWN_ADDRESS.longest.total_seconds()


async def test_many_guesses_at_once_do_not_slip_through(shop: Shop) -> None:
    await shop.staff("xiaolin")
    waits = await asyncio.gather(*(guess(shop) for _ in range(15)))
    # Two more would need 1 + 2 seconds.
    assert domain.GUESSES_AT_ADDRESS.free + 1 <= waits.count(0) <= domain.GUESSES_AT_ADDRESS.free + 3


async def test_a_name_that_nobody_has_is_treated_as_one_that_somebody_has(shop: Shop) -> None:
    await shop.staff("xiaolin")
    free = domain.GUESSES_AT_ADDRESS.free + 1
    for name, address in (("xiaolin", "192.0.2.200"), ("nobody", "192.0.2.201")):
        waits = [await guess(shop, name, address=address) for _ in range(free + 6)]
        assert not any(waits[:free])
        assert any(waits)
    outcomes = []
    for _ in range(free + 6):
        try:
            await shop.parts.sign_in.client_token(shop.tenant_id, "nobody", "wrong secret", [], address="192.0.2.202")
        except (CredentialsWrong, LockedOut) as refused:
            outcomes.append(isinstance(refused, LockedOut))
    assert not any(outcomes[:free])
    assert any(outcomes)


async def test_a_network_of_version_6_is_one_address(shop: Shop) -> None:
    await shop.staff("xiaolin")
    waits = [await guess(shop, address=f"2001:db8::{number:x}") for number in range(10)]
    assert any(waits)
    assert await guess(shop, address="2001:db8:0:1::1") == 0


async def test_log_in_works_while_valkey_is_frozen_and_guesses_are_still_limited(
    shop: Shop, migrated: Platform
) -> None:
    await shop.staff("xiaolin")
    migrated.valkey.pause()
    try:
        async with asyncio.timeout(10):
            await log_in(shop)
        async with asyncio.timeout(10):
            # Side by side, or the delays would be over before the next guess.
            waits = await asyncio.gather(*(guess(shop) for _ in range(domain.GUESSES_AT_ADDRESS.free + 5)))
        assert domain.GUESSES_AT_ADDRESS.free + 1 <= waits.count(0) <= domain.GUESSES_AT_ADDRESS.free + 3
        async with asyncio.timeout(10):
            await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN", address=HOME)
    finally:
        migrated.valkey.resume()
    # Counted together again, once Valkey answers.
    async with asyncio.timeout(30):
        while await guess(shop, "another") > 0:
            await asyncio.sleep(0.05)


async def test_one_address_makes_only_so_many_visitors_and_one_shop_has_only_so_many(
    shop: Shop, member: Member, config: UserConfig
) -> None:
    visits = VisitorRate(await member.valkey(), Keyring(config.keyring_file), per_address=5, per_shop=12)
    waits = []

    async def arrives(address: str, tenant_id: str = shop.tenant_id) -> bool:
        try:
            await visits.count(tenant_id, address)
        except TooManyVisitors as refused:
            waits.append(refused.retry_after)
            return False
        return True

    assert [await arrives(HOME) for _ in range(8)].count(True) == 5
    assert [await arrives(ELSEWHERE) for _ in range(8)].count(True) == 5
    assert [await arrives(next(_addresses)) for _ in range(8)].count(True) in (2, 3)
    other = await open_shop(shop.parts)
    assert await arrives(HOME, other.tenant_id)
    assert all(0 < wait <= 60 for wait in waits)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (5, 0), (6, 1), (7, 2), (10, 16), (15, 512), (16, 900), (10**9, 900)]
)
def test_delays(failures: int, seconds: float) -> None:
    assert domain.delay(failures, domain.GUESSES_AT_ADDRESS) == seconds


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert domain.network_of(address) == network
