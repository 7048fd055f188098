"""Many publications at once are stored together, and each is answered as if it had come alone."""

import asyncio
import itertools
from collections import defaultdict

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.user.v1.user_events_pb2 import UserEvent

from mesh.bus import Bus, Conflict, PubAck, Rejected, Unavailable, decode, measure
from mesh.bus.tests.members import entry, member, until
from mesh.testing import Platform

pytestmark = pytest.mark.store


def batches() -> float:
    """How many batches were stored by this process."""
    [metric] = measure.batch_size.collect()
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_count"))


def refused() -> float:
    [metric] = measure.batches_refused.collect()
    return sum(s.value for s in metric.samples if s.name.endswith("_total"))


async def test_many_at_once_share_batches_and_each_gets_its_own_sequence(chat: Bus, tenant: str) -> None:
    before = batches()
    acks = await asyncio.gather(
        *(chat.publish(f"log.{tenant}.{n % 20}", entry(n), message_id=f"{tenant}-{n}") for n in range(1000))
    )
    assert 3 <= batches() - before <= 20
    for number, ack in enumerate(acks):
        stored = await chat.at("LOG", ack.seq)
        assert decode(stored.data, stored.headers, LogEntry).message.id == number
    for session in range(20):
        subject = f"log.{tenant}.{session}"
        seqs = [each.seq for each in await chat.read(subject, after_seq=0, limit=1000)]
        assert seqs == [acks[number].seq for number in range(session, 1000, 20)]


async def test_one_that_is_stored_already_does_not_keep_the_others_out(chat: Bus, tenant: str) -> None:
    async def send(number: int) -> PubAck:
        return await chat.publish(f"log.{tenant}.{number % 7}", entry(number), message_id=f"{tenant}-{number}")

    first = await asyncio.gather(*(send(number) for number in range(0, 100, 10)))
    count = refused()
    acks = await asyncio.gather(*(send(number) for number in range(100)))
    assert refused() > count
    assert [ack.seq for ack in acks[::10]] == [ack.seq for ack in first]
    assert [number for number, ack in enumerate(acks) if ack.duplicate] == list(range(0, 100, 10))
    assert len({ack.seq for ack in acks}) == 100


async def test_the_same_message_twice_in_one_batch_is_stored_once(chat: Bus, tenant: str) -> None:
    acks = await asyncio.gather(
        *(chat.publish(f"log.{tenant}.1", entry(n // 2), message_id=f"{tenant}-{n // 2}") for n in range(100))
    )
    assert len({ack.seq for ack in acks}) == 50
    assert len(await chat.read(f"log.{tenant}.1", after_seq=0, limit=200)) == 50


async def test_expectations_hold_within_and_between_batches(chat: Bus, tenant: str) -> None:
    async def claim(session: int, who: int) -> PubAck | None:
        try:
            return await chat.publish(
                f"log.{tenant}.{session}",
                entry(who),
                message_id=f"{tenant}-{session}-{who}",
                expected_last_subject_sequence=0,
            )
        except Conflict:
            return None

    results = await asyncio.gather(*(claim(session, who) for who in range(4) for session in range(30)))
    for session in range(30):
        assert sum(ack is not None for ack in results[session::30]) == 1
        assert len(await chat.read(f"log.{tenant}.{session}", after_seq=0, limit=10)) == 1


async def test_one_that_is_too_large_is_refused_alone(chat: Bus, tenant: str) -> None:
    large = entry(0)
    large.message.content.text.text = "x" * 1_100_000
    results = await asyncio.gather(
        *(
            chat.publish(f"log.{tenant}.{n}", large if n == 20 else entry(n), message_id=f"{tenant}-{n}")
            for n in range(40)
        ),
        return_exceptions=True,
    )
    assert [number for number, result in enumerate(results) if isinstance(result, BaseException)] == [20]
    assert isinstance(results[20], Rejected)


async def test_events_and_log_go_their_own_ways(platform: Platform, tenant: str) -> None:
    before = batches()
    async with member(platform, "session") as session:
        acks = await asyncio.gather(
            *(session.publish(f"log.{tenant}.{n}", entry(n), message_id=f"{tenant}-{n}") for n in range(50)),
            *(
                session.publish(f"event.session.{tenant}.{n}", UserEvent(event_id=n), message_id=f"{tenant}-e-{n}")
                for n in range(50)
            ),
        )
    assert len(acks) == 100
    assert batches() - before >= 2


async def test_no_sequence_is_given_again_after_a_restart(platform: Platform, tenant: str) -> None:
    """What a cut of the power does: the last batch was shown, and is not there any more."""
    async with member(platform, "chat") as bus:

        async def send(numbers: range) -> list[PubAck]:
            return await asyncio.gather(
                *(bus.publish(f"log.{tenant}.1", entry(n), message_id=f"{tenant}-{n}", timeout=20) for n in numbers)
            )

        last = max(ack.seq for ack in await send(range(100)))
        await platform.nats.restart()
        await until(lambda: bus.is_connected)
        again = await send(range(100, 200))
        assert min(ack.seq for ack in again) > last + 256


async def test_a_frozen_nats_refuses_in_time_and_loses_nothing(platform: Platform, tenant: str) -> None:
    async with member(platform, "chat") as bus:
        loop = asyncio.get_running_loop()
        acknowledged: set[int] = set()
        longest = 0.0
        goes_on = asyncio.Event()

        async def talk(lane: int) -> None:
            nonlocal longest
            # Until the freeze is over, however fast messages are stored.
            for number in itertools.takewhile(lambda _: not goes_on.is_set(), itertools.count(lane * 1_000_000)):
                began = loop.time()
                try:
                    await bus.publish(f"log.{tenant}.{lane}", entry(number), message_id=f"{tenant}-{number}", timeout=1)
                except Unavailable:
                    longest = max(longest, loop.time() - began)
                else:
                    acknowledged.add(number)

        talking = [asyncio.create_task(talk(lane)) for lane in range(40)]
        await until(lambda: len(acknowledged) > 100)
        platform.nats.pause()
        try:
            await until(lambda: longest > 0)
        finally:
            platform.nats.resume()
            goes_on.set()
        await asyncio.gather(*talking)
        # Messages went through again.
        assert await bus.publish(f"log.{tenant}.0", entry(1), message_id=f"{tenant}-last", timeout=5)
        assert longest < 2
        stored: dict[int, int] = defaultdict(int)
        for lane in range(40):
            for each in await bus.read(f"log.{tenant}.{lane}", after_seq=0, limit=100_000):
                stored[decode(each.data, each.headers, LogEntry).message.id] += 1
        assert acknowledged <= stored.keys()
        assert all(count == 1 for number, count in stored.items() if number != 1)
