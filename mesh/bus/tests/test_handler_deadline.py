"""Handlers that do not end: cancelled at their deadline, and nobody else waits for them."""

import asyncio
from collections import Counter

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry

from mesh.bus import Bus, Delivery
from mesh.bus.handling import HandlerStuck, HandlerTimeout, bounded
from mesh.bus.tests.members import entry, member, until
from mesh.bus.tests.test_consume import dead, fill, running
from mesh.testing import Platform

pytestmark = pytest.mark.store


@pytest.fixture(autouse=True)
async def wiped(platform: Platform) -> None:
    """Every durable begins anew."""
    await platform.nats.wipe()


async def test_what_hangs_is_cancelled_tried_again_and_buried_in_the_end(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    tries: Counter[int] = Counter()
    done: set[int] = set()

    async def handle(delivery: Delivery[LogEntry]) -> None:
        number = delivery.message.message.id
        tries[number] += 1
        if number == 0:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        done.add(number)

    await fill(chat, tenant, range(200))
    consuming = bot.consume(
        "LOG", "bot", ["log.*.*"], LogEntry, handle, max_in_flight=2, max_deliveries=2, deadline=0.3
    )
    async with running(consuming):
        # There is place for two, and one of them hangs.
        await until(lambda: len(done) == 199)
        await fill(chat, tenant, range(200, 260))
        await until(lambda: len(done) == 259)
        letters = await dead(platform, "dead.LOG.bot", count=1)
    assert tries[0] == 2
    assert [each["Octopus-Dead-Reason"] for each in letters] == ["HandlerTimeout: DEADLINE_EXCEEDED"]


async def test_when_everything_hangs_nothing_is_buried(platform: Platform, chat: Bus, bot: Bus, tenant: str) -> None:
    tries: Counter[int] = Counter()
    done: set[int] = set()
    frozen = True

    async def handle(delivery: Delivery[LogEntry]) -> None:
        tries[delivery.message.message.id] += 1
        if frozen:
            await asyncio.Event().wait()
        done.add(delivery.message.message.id)

    await fill(chat, tenant, range(8))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle, max_deliveries=2, deadline=0.1)):
        await until(lambda: min(tries.values(), default=0) >= 4)
        frozen = False
        await until(lambda: len(done) == 8)
    assert await dead(platform, "dead.LOG.bot", count=0) == []


async def test_one_that_ignores_its_cancellation_keeps_only_its_own_key_waiting_and_in_order(
    chat: Bus, bot: Bus, tenant: str
) -> None:
    seen: dict[str, list[int]] = {"stuck": [], "free": []}
    deaf, cancelled = asyncio.Event(), 0

    async def handle(delivery: Delivery[LogEntry]) -> None:
        nonlocal cancelled
        session, number = delivery.subject.rsplit(".", 1)[1], delivery.message.message.id
        if session == "stuck" and number == 0 and not deaf.is_set():
            while not deaf.is_set():
                try:
                    await deaf.wait()
                except asyncio.CancelledError:
                    cancelled += 1
            # It was too late for this one: it is handled again.
            raise RuntimeError("late")
        seen[session].append(number)

    await fill(chat, f"{tenant}-stuck", range(30), "stuck")
    await fill(chat, f"{tenant}-free", range(5), "free")
    consuming = bot.consume(
        "LOG", "bot", ["log.*.*"], LogEntry, handle, key=lambda each: each.tenant_id, max_in_flight=4, deadline=0.2
    )
    async with running(consuming):
        await until(lambda: cancelled > 0)
        await until(lambda: len(seen["free"]) == 5)
        await fill(chat, f"{tenant}-free", range(5, 40), "free")
        await until(lambda: len(seen["free"]) == 40)
        assert seen["stuck"] == []
        deaf.set()
        await until(lambda: len(seen["stuck"]) == 30)
    assert seen["stuck"] == list(range(30))
    assert seen["free"] == list(range(40))


async def test_a_batch_that_hangs_is_handled_without_the_message_that_is_to_blame(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    done: set[int] = set()

    async def handle(deliveries: list[Delivery[LogEntry]]) -> None:
        numbers = {each.message.message.id for each in deliveries}
        if 3 in numbers:
            await asyncio.Event().wait()
        done.update(numbers)

    await fill(chat, tenant, range(10))
    consuming = bot.consume_batches(
        "LOG", "bot", ["log.*.*"], LogEntry, handle, batch=10, max_deliveries=2, deadline=0.1
    )
    async with running(consuming):
        await until(lambda: len(done) == 9)
        letters = await dead(platform, "dead.LOG.bot", count=1)
    assert len(letters) == 1


async def test_a_batch_that_hangs_because_of_what_it_needs_loses_nothing(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    done: set[int] = set()
    tries, frozen = 0, True

    async def handle(deliveries: list[Delivery[LogEntry]]) -> None:
        nonlocal tries
        tries += 1
        if frozen:
            await asyncio.Event().wait()
        done.update(each.message.message.id for each in deliveries)

    await fill(chat, tenant, range(10))
    consuming = bot.consume_batches("LOG", "bot", ["log.*.*"], LogEntry, handle, batch=10, deadline=0.05)
    async with running(consuming):
        await until(lambda: tries >= 10)
        frozen = False
        await until(lambda: len(done) == 10)
    assert await dead(platform, "dead.LOG.bot", count=0) == []


async def test_a_consumer_with_a_deaf_handler_can_be_stopped(platform: Platform, chat: Bus, tenant: str) -> None:
    begun, released = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def deaf(delivery: Delivery[LogEntry]) -> None:
        begun.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen.append(delivery.message.message.id)

    await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-1")
    async with (
        member(platform, "bot") as first,
        running(first.consume("LOG", "bot", ["log.*.*"], LogEntry, deaf, deadline=0.1)),
    ):
        await begun.wait()
    async with (
        member(platform, "bot") as second,
        running(second.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)),
    ):
        await until(lambda: seen == [1])
    released.set()


async def test_a_bounded_run_tells_the_three_ways_to_end() -> None:
    async def wait(ignores: bool, end: asyncio.Event) -> None:
        while True:
            try:
                await end.wait()
            except asyncio.CancelledError:
                if not ignores:
                    raise
            else:
                return

    ended = asyncio.Event()
    ended.set()
    await bounded(wait(False, ended), seconds=1)
    with pytest.raises(HandlerTimeout) as timeout:
        await bounded(wait(False, asyncio.Event()), seconds=0.01)
    assert not isinstance(timeout.value, HandlerStuck)
    late = asyncio.Event()
    with pytest.raises(HandlerStuck) as stuck:
        await bounded(wait(True, late), seconds=0.01)
    late.set()
    await stuck.value.task
