"""Many devices come back at once: each session's log is read once, each device gets the newest, and talk goes on."""

from __future__ import annotations

import asyncio
import functools

import pytest
from octopus.chat.v1 import chat_events_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from prometheus_client import REGISTRY

from mesh.testing import Platform
from services.chat.attach_queue import AttachQueue
from services.chat.replay import ReplayScheduler
from services.chat.tests.conftest import TENANT, Chat, Ids, Stream, running, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT = 71, 82
LONG = 1700


async def fill(chat: Chat, session_id: int, count: int) -> list[int]:
    """Store so many messages in a session, and return their positions."""
    ids = Ids()

    async def store(number: int) -> int:
        message = message_pb2.Message(id=ids.next(), session_id=session_id, client_message_id=f"filled-{number}")
        message.content.text.text = f"message {number}"
        entry = chat_events_pb2.LogEntry(message=message, tenant_id=TENANT, customer_id=CUSTOMER)
        return (await chat.bus.publish(f"log.{TENANT}.{session_id}", entry, message_id=str(message.id), timeout=30)).seq

    return sorted(await asyncio.gather(*(store(number) for number in range(count))))


def goodbyes(stream: Stream) -> list[frame_pb2.Goodbye]:
    """Return the goodbye of a stream, if it has come."""
    return [frame.goodbye for frame in stream.frames if frame.HasField("goodbye")]


def reads() -> float:
    """Return how often the log was read for those who resume."""
    return REGISTRY.get_sample_value("octopus_chat_log_reads_total") or 0


async def test_a_long_session_is_read_once_for_all_devices_that_come_back_at_once(platform: Platform) -> None:
    async with running(platform, rate_burst=1000, resume_messages=100) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        # Other sessions lie between, so that positions tell nothing about how many messages there are.
        others = [chat.sessions.open(CUSTOMER + 1 + n) for n in range(3)]
        filled, *_ = await asyncio.gather(
            fill(chat, session.id, LONG), *(fill(chat, other.id, LONG // 3) for other in others)
        )
        before = reads()
        devices = await asyncio.gather(
            *(chat.converse(AGENT, "AGENT") if number % 2 else chat.converse(CUSTOMER) for number in range(40))
        )
        for device in devices:
            shown = await device.next("message", 100, timeout=30)
            assert [message.seq for message in shown] == filled[-100:]
            assert shown[0].previous_seq == filled[-101]
            (too_old,) = await device.next("too_old")
            assert (too_old.session_id, too_old.first_seq) == (session.id, filled[-100])
        # A look at the beginning, at the end, at a few places in between to find the newest, and those.
        assert reads() - before <= 20

        # Who comes later, and who comes back with a position, is given what is there.
        before = reads()
        late = await chat.converse(CUSTOMER, cursors={session.id: filled[-31]})
        assert [message.seq for message in await late.next("message", 30)] == filled[-30:]
        assert not [frame for frame in late.frames if frame.HasField("too_old")]
        assert reads() == before

        # Everybody goes on where they were.
        await devices[0].send(post=text(session.id, "and on"))
        (ack,) = await devices[0].next("ack")
        for device in devices[1:]:
            assert (await device.next("message", 101))[-1].seq == ack.seq
        assert reads() == before


async def test_a_device_that_missed_little_reads_little(platform: Platform) -> None:
    async with running(platform, resume_messages=100) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        filled = await fill(chat, session.id, 300)
        before = reads()
        device = await chat.converse(CUSTOMER, cursors={session.id: filled[-6]})
        assert [message.seq for message in await device.next("message", 5)] == filled[-5:]
        assert reads() - before == 1
        # Another one needs more than that, and gets it.
        new = await chat.converse(AGENT, "AGENT")
        assert [message.seq for message in await new.next("message", 100)] == filled[-100:]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 102, 199, 200, 201, 250])
async def test_the_newest_are_those_whatever_their_number(count: int, platform: Platform) -> None:
    async with running(platform, resume_messages=100) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        filled = await fill(chat, session.id, count)
        device = await chat.converse(CUSTOMER)
        wanted = filled[-100:]
        assert [message.seq for message in await device.next("message", len(wanted))] == wanted
        # Live ones follow what was missed.
        agent = await chat.converse(AGENT, "AGENT", cursors={session.id: filled[-1] if filled else 0})
        await agent.send(post=text(session.id, "the end"))
        (ack,) = await agent.next("ack")
        assert (await device.next("message", len(wanted) + 1))[-1].seq == ack.seq
        marked = [frame.too_old.first_seq for frame in device.frames if frame.HasField("too_old")]
        assert marked == ([wanted[0]] if count > 100 else [])


async def test_replays_take_few_turns_at_once_in_the_order_of_asking() -> None:
    scheduler = ReplayScheduler(at_once=3)
    holding: set[int] = set()
    done = [asyncio.Event() for _ in range(8)]

    async def replay(number: int) -> None:
        async with scheduler.turn():
            holding.add(number)
            await done[number].wait()
        holding.discard(number)

    async def until(expected: set[int]) -> None:
        async with asyncio.timeout(30):
            while holding != expected:
                await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(replay(number))
        await until({0, 1, 2})
        for number in range(5):
            done[number].set()
            await until({number + 1, number + 2, number + 3})
        for event in done:
            event.set()


async def test_a_replay_waits_while_the_process_is_busy_with_those_who_talk() -> None:
    scheduler = ReplayScheduler(at_once=1)
    loop = asyncio.get_running_loop()
    turns = 0
    going = True

    async def replay() -> None:
        nonlocal turns
        while going:
            async with scheduler.turn():
                turns += 1

    task = asyncio.create_task(replay())
    steps = 0
    until = loop.time() + 1.0
    while loop.time() < until:
        # Somebody talks: 10 ms of work in each turn of the loop.
        working = loop.time() + 0.01
        while loop.time() < working:
            pass
        steps += 1
        await asyncio.sleep(0)
    going = False
    await task
    # Each turn is paid for by a pause as long as the work that it met.
    assert turns <= steps * 0.75


async def test_people_talk_while_others_wait_to_connect_and_those_beyond_are_told_when_to_come_back(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = functools.partial(AttachQueue, at_once=2, gap=0.01, wait=2.0)
    monkeypatch.setattr("services.chat.registry.AttachQueue", queue)
    async with running(platform) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        talking = await chat.converse(CUSTOMER)
        chat.sessions.asked = 0
        chat.sessions.answering.clear()
        coming = [await chat.converse(1000 + number, read=False) for number in range(6)]
        reading = [asyncio.create_task(each.read()) for each in coming]
        await talking.send(post=text(session.id, "still here"))
        await talking.next("ack")
        async with asyncio.timeout(30):
            while len(told := [goodbye for each in coming for goodbye in goodbyes(each)]) < 4:
                await asyncio.sleep(0.01)
        assert chat.sessions.asked == 2
        for goodbye in told:
            assert goodbye.reason == errors_pb2.REASON_UNAVAILABLE
            assert goodbye.reconnect_after.ToMilliseconds() >= 2000
        chat.sessions.answering.set()
        for each in coming:
            if not goodbyes(each):
                await each.next("welcome")
        for task in reading:
            task.cancel()
