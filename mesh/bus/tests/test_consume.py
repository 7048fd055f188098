"""Durable consumers on a real NATS: what becomes of good, bad and ill-timed messages."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry, Signal
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from mesh.bus import Bus, Delivery, Poison
from mesh.bus.errors import Unavailable
from mesh.bus.jetstream import call
from mesh.bus.tests.members import entry, member, until
from mesh.testing import Platform

pytestmark = pytest.mark.store


@pytest.fixture(autouse=True)
async def wiped(platform: Platform) -> None:
    """Every durable begins anew: a member has one name, and so one durable in a stream."""
    await platform.nats.wipe()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs a consumer meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fill(chat: Bus, tenant: str, numbers: range, session: str = "1") -> None:
    await asyncio.gather(
        *(
            chat.publish(f"log.{tenant}.{session}", entry(n, tenant), message_id=f"{tenant}-{session}-{n}")
            for n in numbers
        )
    )


async def dead(platform: Platform, subject: str, *, count: int) -> list[dict[str, str]]:
    """The headers of the dead letters, when there are so many; read by the operator, who may see them."""
    async with member(platform, "operator") as operator, asyncio.timeout(30):
        while len(letters := await operator.read(subject, after_seq=0, limit=100)) < count:
            await asyncio.sleep(0.01)
        return [dict(each.headers) for each in letters]


async def test_every_message_is_handled_once_and_not_again(chat: Bus, bot: Bus, tenant: str) -> None:
    seen: Counter[int] = Counter()

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen[delivery.message.message.id] += 1

    await fill(chat, tenant, range(1000))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await until(lambda: len(seen) == 1000)
        await fill(chat, tenant, range(1000, 1100))
        await until(lambda: len(seen) == 1100)
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await fill(chat, tenant, range(1100, 1101))
        await until(lambda: len(seen) == 1101)

    assert set(seen.values()) == {1}


async def test_what_is_not_wanted_is_done_with_and_never_handled(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    seen: list[int] = []

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen.append(delivery.message.message.id)

    await fill(chat, tenant, range(1, 501))
    consuming = bot.consume(
        "LOG", "bot", ["log.*.*"], LogEntry, handle, wanted=lambda entry: entry.message.id % 100 == 0
    )
    async with running(consuming):
        await until(lambda: len(seen) == 5)
        async with asyncio.timeout(30):
            while await unsettled(platform):
                await asyncio.sleep(0.01)
    assert sorted(seen) == [100, 200, 300, 400, 500]


async def unsettled(platform: Platform) -> int:
    """How many messages the bot's consumer has not been given, or has not answered for."""
    async with member(platform, "operator") as operator:
        info = await call(operator._replies, "CONSUMER.INFO.LOG.bot")
    return int(info["num_pending"]) + int(info["num_ack_pending"])


async def test_two_instances_share_the_work(platform: Platform, chat: Bus, bot: Bus, tenant: str) -> None:
    seen: list[Counter[int]] = [Counter(), Counter()]

    def handler(which: int) -> Any:
        async def handle(delivery: Delivery[LogEntry]) -> None:
            await asyncio.sleep(0.005)
            seen[which][delivery.message.message.id] += 1

        return handle

    async with (
        member(platform, "bot") as other,
        running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handler(0), max_in_flight=4)),
        running(other.consume("LOG", "bot", ["log.*.*"], LogEntry, handler(1), max_in_flight=4)),
    ):
        await fill(chat, tenant, range(200))
        await until(lambda: len(seen[0] + seen[1]) == 200)

    assert min(len(each) for each in seen) > 20
    assert set((seen[0] + seen[1]).values()) == {1}


async def test_a_failing_message_is_tried_again_later_and_then_buried(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    attempts: list[float] = []
    good: list[int] = []

    async def handle(delivery: Delivery[LogEntry]) -> None:
        if delivery.message.message.id == 0:
            attempts.append(asyncio.get_running_loop().time())
            raise RuntimeError("cannot store 13800138000")
        good.append(delivery.message.message.id)

    await fill(chat, tenant, range(5))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle, max_deliveries=4)):
        await until(lambda: len(attempts) == 4)
        await until(lambda: len(good) == 4)
        pauses = [later - earlier for earlier, later in pairwise(attempts)]
        assert all(pause >= least for pause, least in zip(pauses, (0.08, 0.16, 0.32), strict=True))
        await fill(chat, tenant, range(5, 6))
        await until(lambda: len(good) == 5)

    [letter] = await dead(platform, "dead.LOG.bot", count=1)
    assert letter["Octopus-Dead-Reason"] == "RuntimeError"
    assert not any("13800138000" in value for value in letter.values())
    assert letter["Octopus-Dead-Subject"] == f"log.{tenant}.1"
    assert letter["Octopus-Type"] == "octopus.chat.v1.LogEntry"
    assert letter["Octopus-Message-Id"] == f"{tenant}-1-0"


async def test_poison_and_wrong_types_are_buried_at_once(platform: Platform, chat: Bus, bot: Bus, tenant: str) -> None:
    seen: list[int] = []

    async def handle(delivery: Delivery[LogEntry]) -> None:
        if delivery.message.message.id == 0:
            raise Poison("it makes no sense")
        seen.append(delivery.message.message.id)

    await chat.publish(f"log.{tenant}.1", Signal(), message_id=uuid.uuid4().hex)
    await fill(chat, tenant, range(2))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await until(lambda: seen == [1])

        letters = await dead(platform, "dead.LOG.bot", count=2)
    assert sorted(each["Octopus-Type"] for each in letters) == ["octopus.chat.v1.LogEntry", "octopus.chat.v1.Signal"]
    assert all(each["Octopus-Dead-Reason"] == "Poison" for each in letters)


async def test_an_absent_dependency_buries_nothing(platform: Platform, chat: Bus, bot: Bus, tenant: str) -> None:
    failures = 0
    seen: list[int] = []

    async def handle(delivery: Delivery[LogEntry]) -> None:
        nonlocal failures
        if failures < 30:
            failures += 1
            raise Unavailable("the database is away")
        seen.append(delivery.message.message.id)

    await fill(chat, tenant, range(10))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle, max_deliveries=2)):
        await until(lambda: len(seen) == 10)

    assert sorted(seen) == list(range(10))
    assert await dead(platform, "dead.LOG.bot", count=0) == []


async def test_the_messages_of_a_key_stay_in_order_even_when_one_fails(chat: Bus, bot: Bus, tenant: str) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    failed: set[tuple[str, int]] = set()

    async def handle(delivery: Delivery[LogEntry]) -> None:
        session, number = delivery.subject.rsplit(".", 1)[1], delivery.message.message.id
        await asyncio.sleep(0.001)
        if number % 10 == 3 and (session, number) not in failed:
            failed.add((session, number))
            raise RuntimeError("once")
        seen[session].append(number)

    for session in seen:
        await fill(chat, tenant, range(30), session)
    # A key comes from the message, and entries of three sessions have ids of three kinds here.
    await chat.publish(f"log.{tenant}.a", entry(30), message_id=uuid.uuid4().hex)

    async with running(
        bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle, key=lambda each: each.tenant_id, max_in_flight=16)
    ):
        await until(lambda: sum(len(numbers) for numbers in seen.values()) == 91)

    assert seen["a"] == list(range(31))
    assert seen["b"] == seen["c"] == list(range(30))
    assert len(failed) == 9


async def test_a_batch_holds_many_and_one_bad_message_does_not_take_its_neighbours_with_it(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    sizes: list[int] = []
    seen: set[int] = set()

    async def handle(deliveries: list[Delivery[LogEntry]]) -> None:
        numbers = {each.message.message.id for each in deliveries}
        if 7 in numbers:
            raise Poison("seven")
        sizes.append(len(numbers))
        seen.update(numbers)

    await fill(chat, tenant, range(300))
    async with running(bot.consume_batches("LOG", "bot", ["log.*.*"], LogEntry, handle, batch=100)):
        await until(lambda: len(seen) == 299)

    assert max(sizes) == 100
    assert len(await dead(platform, "dead.LOG.bot", count=1)) == 1


async def test_consuming_goes_on_after_a_killed_nats(platform: Platform, chat: Bus, bot: Bus, tenant: str) -> None:
    seen: Counter[int] = Counter()

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen[delivery.message.message.id] += 1

    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await fill(chat, tenant, range(50))
        await until(lambda: len(seen) == 50)
        await platform.nats.kill()
        await platform.nats.start()
        await fill(chat, tenant, range(50, 100))
        await until(lambda: len(seen) == 100)


async def test_consuming_goes_on_after_the_consumer_was_deleted(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    seen: Counter[int] = Counter()

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen[delivery.message.message.id] += 1

    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await fill(chat, tenant, range(10))
        await until(lambda: len(seen) == 10)
        async with member(platform, "operator") as operator:
            await operator._client.jetstream().delete_consumer("LOG", "bot")
        await platform.nats.provision()
        await fill(chat, tenant, range(10, 20))
        await until(lambda: len(seen) == 20)


async def test_stopping_finishes_what_runs_and_gives_back_the_rest(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    begun: list[int] = []
    finished: list[int] = []
    seen: Counter[int] = Counter()

    async def slow(delivery: Delivery[LogEntry]) -> None:
        begun.append(delivery.message.message.id)
        await asyncio.sleep(0.3)
        finished.append(delivery.message.message.id)

    async def quick(delivery: Delivery[LogEntry]) -> None:
        seen[delivery.message.message.id] += 1

    await fill(chat, tenant, range(20))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, slow, key=lambda each: each.message.id % 4)):
        await until(lambda: len(begun) >= 4)
    assert finished == begun

    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, quick)):
        await until(lambda: len(seen) == 20 - len(finished))
    assert set(seen) == set(range(20)) - set(finished)


async def test_what_a_killed_instance_held_is_soon_handled_by_another(
    platform: Platform, chat: Bus, bot: Bus, tenant: str
) -> None:
    held = asyncio.Event()
    seen: list[int] = []

    async def hang(delivery: Delivery[LogEntry]) -> None:
        held.set()
        await asyncio.Event().wait()

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen.append(delivery.message.message.id)

    await fill(chat, tenant, range(1))
    async with member(platform, "bot") as doomed:
        task = asyncio.create_task(doomed.consume("LOG", "bot", ["log.*.*"], LogEntry, hang))
        await held.wait()
        # As a kill would: nothing is said to the server any more.
        await doomed._client.close()
        async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
            await until(lambda: seen == [0])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_resting_consumer_asks_seldom(platform: Platform, bot: Bus) -> None:
    async def handle(delivery: Delivery[LogEntry]) -> None:
        raise AssertionError

    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await asyncio.sleep(0.5)
        before = bot._client.stats["out_msgs"]
        await asyncio.sleep(3)
        assert bot._client.stats["out_msgs"] - before <= 1


async def test_a_handler_continues_the_trace_of_the_sender(chat: Bus, bot: Bus, tenant: str) -> None:
    seen: list[int] = []

    async def handle(delivery: Delivery[LogEntry]) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    with TracerProvider().get_tracer("test").start_as_current_span("posting") as span:
        await fill(chat, tenant, range(1))
    async with running(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, handle)):
        await until(lambda: len(seen) == 1)

    assert seen == [span.get_span_context().trace_id]
