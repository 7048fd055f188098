"""Publishing, reading back and listening, on a real NATS that is broken in between."""

import asyncio
import time
from collections.abc import Mapping

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry, Signal
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from mesh.bus import Bus, Conflict, NotStored, Poison, Unavailable, connect, decode
from mesh.bus.tests.members import entry, member, until
from mesh.bus.tracing import extract
from mesh.identity.files import Identity
from mesh.testing import Platform

pytestmark = pytest.mark.store


async def test_a_message_id_is_stored_once(chat: Bus, tenant: str) -> None:
    first = await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-a")
    again = await chat.publish(f"log.{tenant}.1", entry(2), message_id=f"{tenant}-a")

    assert not first.duplicate
    assert again == (first.seq, True)
    stored = await chat.read(f"log.{tenant}.1", after_seq=0, limit=10)
    assert [decode(each.data, each.headers, LogEntry).message.id for each in stored] == [1]


async def test_many_publications_at_once_are_each_stored_once(chat: Bus, tenant: str) -> None:
    together = 4000
    acks = await asyncio.gather(
        *(chat.publish(f"log.{tenant}.{n % 20}", entry(n), message_id=f"{tenant}-{n}") for n in range(together))
    )

    assert len({ack.seq for ack in acks}) == together
    assert not any(ack.duplicate for ack in acks)


async def test_publications_on_one_subject_keep_their_order_while_nats_stands(chat: Bus, tenant: str) -> None:
    await asyncio.gather(*(chat.publish(f"log.{tenant}.1", entry(n), message_id=f"{tenant}-{n}") for n in range(500)))

    stored = await chat.read(f"log.{tenant}.1", after_seq=0, limit=1000)
    assert [decode(each.data, each.headers, LogEntry).message.id for each in stored] == list(range(500))


async def test_a_publisher_that_expects_another_last_sequence_is_refused(chat: Bus, tenant: str) -> None:
    subject = f"log.{tenant}.1"
    first = await chat.publish(subject, entry(1), message_id=f"{tenant}-1", expected_last_subject_sequence=0)
    await chat.publish(subject, entry(2), message_id=f"{tenant}-2", expected_last_subject_sequence=first.seq)

    with pytest.raises(Conflict) as refused:
        await chat.publish(subject, entry(3), message_id=f"{tenant}-3", expected_last_subject_sequence=first.seq)

    assert refused.value.last_seq is not None
    assert refused.value.last_seq > first.seq
    assert len(await chat.read(subject, after_seq=0, limit=10)) == 2


async def test_a_repeated_publication_is_no_conflict_with_itself(chat: Bus, tenant: str) -> None:
    subject = f"log.{tenant}.1"
    first = await chat.publish(subject, entry(1), message_id=f"{tenant}-1", expected_last_subject_sequence=0)
    await chat.publish(subject, entry(2), message_id=f"{tenant}-2")

    again = await chat.publish(subject, entry(1), message_id=f"{tenant}-1", expected_last_subject_sequence=0)

    assert again == (first.seq, True)


async def test_publications_survive_a_killed_nats(platform: Platform, tenant: str) -> None:
    async with member(platform, "chat") as bus:

        async def send(number: int) -> int:
            ack = await bus.publish(
                f"log.{tenant}.{number % 7}", entry(number), message_id=f"{tenant}-{number}", timeout=30
            )
            return ack.seq

        sending = [asyncio.create_task(send(number)) for number in range(300)]
        await until(lambda: any(task.done() for task in sending))
        await platform.nats.kill()
        sending += [asyncio.create_task(send(number)) for number in range(300, 600)]
        await platform.nats.start()
        seqs = await asyncio.gather(*sending)

        assert len(set(seqs)) == 600
        stored = [each for n in range(7) for each in await bus.read(f"log.{tenant}.{n}", after_seq=0, limit=1000)]
        numbers = [decode(each.data, each.headers, LogEntry).message.id for each in stored]
        assert sorted(numbers) == list(range(600))


async def test_a_publication_fails_in_time_while_nats_is_frozen(platform: Platform, chat: Bus, tenant: str) -> None:
    platform.nats.pause()
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-1", timeout=1)
        assert time.monotonic() - began < 10
    finally:
        platform.nats.resume()

    ack = await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-1", timeout=10)
    assert len(await chat.read(f"log.{tenant}.1", after_seq=ack.seq - 1, limit=10)) == 1


async def test_reading_goes_on_after_a_sequence_and_stops_at_the_limit(chat: Bus, tenant: str) -> None:
    acks = [await chat.publish(f"log.{tenant}.1", entry(n), message_id=f"{tenant}-{n}") for n in range(5)]
    await chat.publish(f"log.{tenant}.2", entry(9), message_id=f"{tenant}-other")

    part = await chat.read(f"log.{tenant}.1", after_seq=acks[1].seq, limit=2)

    assert [each.seq for each in part] == [acks[2].seq, acks[3].seq]
    assert await chat.read(f"log.{tenant}.1", after_seq=acks[4].seq, limit=2) == []
    assert await chat.read(f"log.{tenant}.3", after_seq=0, limit=2) == []
    last = await chat.last(f"log.{tenant}.1")
    assert last is not None
    assert last.seq == acks[4].seq
    assert await chat.last(f"log.{tenant}.3") is None
    assert (await chat.at("LOG", acks[0].seq)).data == entry(0).SerializeToString()
    with pytest.raises(NotStored):
        await chat.at("LOG", acks[4].seq + 1000)


async def test_a_stream_knows_from_where_to_where_it_goes_also_when_it_is_empty(
    chat: Bus, tenant: str, platform: Platform
) -> None:
    acks = [await chat.publish(f"log.{tenant}.1", entry(n), message_id=f"{tenant}-{n}") for n in range(3)]
    last_at = (await chat.at("LOG", acks[2].seq)).time

    await platform.nats.forget("LOG", before=acks[1].seq)
    assert await chat.extent_of("LOG") == (acks[1].seq, (await chat.at("LOG", acks[1].seq)).time, acks[2].seq)

    await platform.nats.forget("LOG", before=acks[2].seq + 1)
    assert await chat.extent_of("LOG") == (acks[2].seq + 1, last_at, acks[2].seq)


async def test_a_stored_message_is_heard_live_with_its_sequence_and_the_one_before(chat: Bus, tenant: str) -> None:
    heard: list[Mapping[str, str]] = []
    subscription = await chat.subscribe(f"live.{tenant}.1.*", lambda _data, headers, _subject: heard.append(headers))

    acks = [await chat.publish(f"log.{tenant}.1", entry(n), message_id=f"{tenant}-{n}") for n in range(2)]
    await until(lambda: len(heard) == 2)
    await subscription.unsubscribe()

    assert [int(each["Nats-Sequence"]) for each in heard] == [ack.seq for ack in acks]
    assert [int(each["Nats-Last-Sequence"]) for each in heard] == [0, acks[0].seq]


async def test_signals_are_heard_in_order_and_not_stored(chat: Bus, tenant: str) -> None:
    heard: list[bytes] = []
    gaps: list[None] = []
    subscription = await chat.subscribe(
        f"live.{tenant}.1.*", lambda data, _headers, _subject: heard.append(data), on_gap=lambda: gaps.append(None)
    )
    signals = [Signal() for _ in range(50)]
    for number, signal in enumerate(signals):
        signal.typing.session_id = number + 1
        await chat.signal(f"live.{tenant}.1.signal", signal)
    await until(lambda: len(heard) == 50)
    await subscription.unsubscribe()

    assert heard == [signal.SerializeToString() for signal in signals]
    assert gaps == []


async def test_a_subscriber_is_told_of_a_gap_and_hears_again_after_a_restart(
    platform: Platform, chat: Bus, tenant: str
) -> None:
    heard: list[bytes] = []
    gaps: list[None] = []
    await chat.subscribe(
        f"live.{tenant}.1.*", lambda data, _headers, _subject: heard.append(data), on_gap=lambda: gaps.append(None)
    )
    await platform.nats.kill()
    await until(lambda: not chat.is_connected)
    await platform.nats.start()
    await until(lambda: len(gaps) == 1)

    await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-1")
    await until(lambda: len(heard) == 1)


async def test_a_failing_callback_harms_no_other(chat: Bus, tenant: str) -> None:
    heard: list[bytes] = []

    def fail(data: bytes, headers: Mapping[str, str], subject: str) -> None:
        raise RuntimeError("a mistake")

    broken = await chat.subscribe(f"live.{tenant}.1.*", fail)
    sound = await chat.subscribe(f"live.{tenant}.1.*", lambda data, _headers, _subject: heard.append(data))
    await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-1")
    await until(lambda: len(heard) == 1)
    await broken.unsubscribe()
    await sound.unsubscribe()


async def test_a_trace_goes_with_the_message(chat: Bus, tenant: str) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("posting") as span:
        ack = await chat.publish(f"log.{tenant}.1", entry(1), message_id=f"{tenant}-1")

    stored = await chat.at("LOG", ack.seq)
    carried = trace.get_current_span(extract(stored.headers)).get_span_context()
    assert carried.trace_id == span.get_span_context().trace_id


async def test_a_payload_of_another_type_is_poison(chat: Bus, tenant: str) -> None:
    ack = await chat.publish(f"log.{tenant}.1", Signal(), message_id=f"{tenant}-1")
    stored = await chat.at("LOG", ack.seq)

    with pytest.raises(Poison, match=r"octopus\.chat\.v1\.Signal"):
        decode(stored.data, stored.headers, LogEntry)


async def test_a_server_that_is_not_there_is_named(platform: Platform) -> None:
    tls = Identity(platform.identity, "chat").client_context
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        async with connect("tls://127.0.0.1:1", "chat", tls=tls, timeout=1):
            pass


async def test_a_message_that_one_may_not_publish_is_not_taken_for_a_full_stream(
    platform: Platform, tenant: str
) -> None:
    # It may publish other subjects of the stream, and ask about the stream.
    async with member(platform, "user") as user:
        with pytest.raises(Unavailable):
            await user.publish(f"event.session.{tenant}.1", entry(1), message_id=f"{tenant}-denied", timeout=0.5)
