"""Presence on a real Valkey: reports that build on each other, instances that vanish, a store that forgets."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta

import pytest

from mesh.process.config import ServiceConfig
from mesh.process.member import Member
from mesh.stores.valkey import Valkey
from mesh.testing import Platform
from services.presence.domain import Device, Presence
from services.presence.store import Person, Presences

pytestmark = pytest.mark.store

SHOP, USER = "presence-shop", 7
PERSON = Person(SHOP, USER, staff=True)
DESK = [Device("desk", 1)]
LOST_AFTER = timedelta(seconds=1.5)


@pytest.fixture
async def valkey(migrated: Platform) -> AsyncIterator[Valkey]:
    async with Member(migrated.config("presence", ServiceConfig)) as member:
        yield await member.valkey()


@pytest.fixture
def prefix() -> str:
    return f"presence:{{{uuid.uuid4().hex}}}"


@pytest.fixture
def presences(valkey: Valkey, prefix: str) -> Presences:
    return Presences(valkey, lost_after=LOST_AFTER, prefix=prefix)


async def one(presences: Presences, user_id: int = USER, shop: str = SHOP) -> Presence:
    (found,) = await presences.of(shop, [user_id])
    return found


async def silent(presences: Presences, instance: str) -> float:
    """Gives the instance up, as the sweep does it, and returns when it was still there, on the monotonic clock."""
    async with asyncio.timeout(15):
        while True:
            before = time.monotonic()
            if await presences.lose() == instance:
                return before
            await asyncio.sleep(0.05)


def counted_from(found: Presence, moment: float) -> bool:
    """Returns whether somebody counts as offline since a moment, on the monotonic clock, at the earliest."""
    assert found.offline_for is not None
    return found.offline_for.total_seconds() <= time.monotonic() - moment + 0.1


async def test_a_person_is_online_as_long_as_one_instance_holds_a_stream(presences: Presences) -> None:
    assert await presences.report("one", 1, first=True, persons={PERSON: DESK})
    assert await presences.report("two", 1, first=True, persons={PERSON: [Device("phone", 2)]})
    assert (await one(presences)).devices == (Device("desk", 1), Device("phone", 2))
    assert await presences.report("one", 2, first=False, persons={PERSON: []})
    assert (await one(presences)).devices == (Device("phone", 2),)
    began = time.monotonic()
    assert await presences.report("two", 2, first=False, persons={PERSON: []})
    gone = await one(presences)
    assert not gone.online
    assert gone.last_seen_at is not None
    assert counted_from(gone, began)


async def test_a_shop_sees_nothing_of_another_one(presences: Presences) -> None:
    await presences.report("one", 1, first=True, persons={PERSON: DESK})
    assert not (await one(presences, shop="presence-sho")).online
    assert await presences.staff("presence-sho") == []
    assert await presences.staff(SHOP) == [USER]


async def test_shoppers_are_not_listed_among_the_staff(presences: Presences) -> None:
    await presences.report("one", 1, first=True, persons={PERSON: DESK, Person(SHOP, 8, staff=False): DESK})
    assert await presences.staff(SHOP) == [USER]
    assert (await one(presences, 8)).online


async def test_a_report_that_does_not_follow_changes_nothing_and_is_asked_for_anew(presences: Presences) -> None:
    assert not await presences.report("one", 5, first=False, persons={PERSON: DESK})
    assert not (await one(presences)).online
    assert await presences.report("one", 6, first=True, persons={PERSON: DESK})
    # Late, after the next one; and one lost in between.
    for sequence, first in ((5, True), (6, False), (8, False)):
        assert not await presences.report("one", sequence, first=first, persons={PERSON: []})
    assert (await one(presences)).online


async def test_who_is_missing_when_an_instance_begins_again_has_left(presences: Presences) -> None:
    await presences.report("one", 1, first=True, persons={PERSON: DESK})
    await presences.report("one", 2, first=True, persons={})
    gone = await one(presences)
    assert not gone.online
    assert gone.last_seen_at is not None


async def test_people_of_a_lost_instance_are_offline_from_its_loss_on(presences: Presences) -> None:
    await presences.report("one", 1, first=True, persons={PERSON: DESK})
    lost_at = await _reporting(presences, until=silent(presences, "one"))
    gone = await one(presences)
    assert not gone.online
    # Not from its last report on: that was longer ago.
    assert counted_from(gone, lost_at)
    # It was only frozen.
    assert not await presences.report("one", 2, first=False, persons={})
    await presences.report("one", 3, first=True, persons={PERSON: DESK})
    assert (await one(presences)).online


async def test_an_instance_with_many_people_is_given_up_in_parts(presences: Presences) -> None:
    people = [Person(SHOP, number, staff=False) for number in range(1, 1201)]
    for sequence, part in enumerate((people[:600], people[600:]), 1):
        assert await presences.report("one", sequence, first=sequence == 1, persons=dict.fromkeys(part, DESK))
    async with asyncio.timeout(15):
        while await presences.lose() is None:
            await asyncio.sleep(0.05)
    found = await presences.of(SHOP, range(1, 1201))
    assert 0 < sum(each.online for each in found) < len(people)
    # It comes back in between: what it reports does not follow on what is left of it.
    assert not await presences.report("one", 3, first=False, persons={PERSON: DESK})
    assert await presences.lose() == "one"
    found = await presences.of(SHOP, range(1, 1201))
    assert not [each for each in found if each.online or each.last_seen_at is None]


async def test_while_no_instance_reports_nobody_grows_absent(presences: Presences) -> None:
    await presences.report("one", 1, first=True, persons={PERSON: DESK})
    await presences.report("one", 2, first=False, persons={PERSON: []})
    await silent(presences, "one")
    assert (await one(presences)).offline_for == timedelta()
    # Whoever left before is given time anew, once somebody reports again.
    reported_at = time.monotonic()
    await presences.report("two", 1, first=True, persons={})
    again = await one(presences)
    assert counted_from(again, reported_at)
    assert again.last_seen_at is not None


async def test_what_valkey_forgot_makes_nobody_absent(presences: Presences, valkey: Valkey, prefix: str) -> None:
    await presences.report("one", 1, first=True, persons={PERSON: DESK})
    async for key in valkey.scan_iter(match=f"{prefix.replace('{', '?').replace('}', '?')}*"):
        await valkey.delete(key)
    assert (await one(presences)).offline_for == timedelta()
    assert not await presences.report("one", 2, first=False, persons={})
    reported_at = time.monotonic()
    await presences.report("one", 3, first=True, persons={})
    assert counted_from(await one(presences), reported_at)
    await presences.report("one", 4, first=False, persons={PERSON: DESK})
    assert (await one(presences)).online


async def _reporting(presences: Presences, until: Coroutine[None, None, float]) -> float:
    """Reports for another instance until a coroutine has ended, and returns what it gives."""
    task = asyncio.create_task(until)
    sequence = 0
    while not task.done():
        sequence += 1
        await presences.report("other", sequence, first=sequence == 1, persons={})
        await asyncio.wait((task,), timeout=0.2)
    return await task
