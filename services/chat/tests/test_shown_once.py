"""A stream shows every entry of a session once, in order and without gaps, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.bus import Unavailable
from services.chat.connection import Connection
from services.chat.follower import OwnPosts
from services.chat.registry import ConnectionRegistry
from services.chat.tests.fakes import FakeBus, FakeSessions, connection, registry, shown

pytestmark = pytest.mark.unit

CUSTOMER, AGENT, OTHER = 11, 22, 23


class Setting:
    """A registry on fakes, and what its streams have shown."""

    def __init__(self, *, resume_limit: int = 1000) -> None:
        self.bus = FakeBus()
        self.sessions = FakeSessions(self.bus)
        self.registry: ConnectionRegistry = registry(self.bus, self.sessions, resume_limit=resume_limit)
        self.frames: dict[Connection, list[frame_pb2.ServerFrame]] = {}

    async def connect(self, user_id: int, cursors: dict[int, int] | None = None) -> Connection:
        stream = connection(user_id)
        self.frames[stream] = []
        await self.registry.attach(stream, cursors or {})
        return stream

    def positions(self, stream: Connection, session_id: int) -> list[int]:
        self.frames[stream] += shown(stream)
        return [f.message.seq for f in self.frames[stream] if f.message.session_id == session_id]

    def stored(self, session_id: int) -> list[int]:
        return [seq for seq, subject, _ in self.bus.stored if subject.endswith(f".{session_id}")]

    async def until_shown(self, stream: Connection, session_id: int, expected: list[int]) -> None:
        async with asyncio.timeout(30):
            while self.positions(stream, session_id)[-1:] != expected[-1:]:
                await asyncio.sleep(0.005)
        assert self.positions(stream, session_id) == expected


async def test_an_offer_made_again_to_the_same_agent_shows_only_what_is_new() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    agent = await setting.connect(AGENT)
    for _ in range(3):
        setting.sessions.say(session)()
    await setting.until_shown(agent, 1, [1, 2, 3])
    for heard in setting.sessions.change(session, 0):
        heard()
    # The change that took the session away is entry 4.
    setting.sessions.say(session)()
    for heard in setting.sessions.change(session, AGENT):
        heard()
    setting.sessions.say(session)()
    await setting.until_shown(agent, 1, [1, 2, 3, 4, 5, 6, 7])


async def test_a_notice_that_comes_while_a_device_connects_does_not_undo_its_position() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    for _ in range(5):
        setting.sessions.say(session)()
    connecting = asyncio.create_task(setting.connect(AGENT, {1: 3}))
    notices = setting.sessions.change(session, AGENT)
    async with asyncio.timeout(20):
        while not setting.bus.subscriptions:
            await asyncio.sleep(0)
    for heard in notices:
        heard()
    await setting.until_shown(await connecting, 1, [4, 5, 6])


async def test_an_old_notice_does_not_bring_a_former_agent_back() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    agent = await setting.connect(AGENT)
    customer = await setting.connect(CUSTOMER)
    given = setting.sessions.change(session, AGENT)
    taken = setting.sessions.change(session, OTHER)
    for heard in taken + given:
        heard()
    await setting.until_shown(customer, 1, [1, 2])
    setting.sessions.say(session, "not for the former agent")()
    await setting.until_shown(customer, 1, [1, 2, 3])
    assert 3 not in setting.positions(agent, 1)


async def test_a_message_lost_by_a_dying_bus_and_sent_again_is_shown_once_and_hides_no_other() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    agent = await setting.connect(AGENT)
    setting.sessions.say(session)()
    setting.sessions.say(session, "sent on, never kept")()
    await setting.until_shown(agent, 1, [1, 2])
    _, subject, lost = setting.bus.stored.pop()
    setting.sessions.say(session, "another one at its position")
    setting.bus.store(subject, lost)
    setting.registry.repair()
    setting.sessions.say(session, "the next")()
    async with asyncio.timeout(20):
        while (seen := setting.positions(agent, 1))[-1] != 4:
            await asyncio.sleep(0.005)
    texts = [f.message.content.text.text for f in setting.frames[agent] if f.HasField("message")]
    assert texts == ["words", "sent on, never kept", "another one at its position", "the next"]
    assert seen == [1, 2, 2, 4]


async def test_a_log_that_begins_anew_ends_the_streams_that_know_the_old_one() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    agent = await setting.connect(AGENT)
    for _ in range(100):
        setting.sessions.say(session)()
    await setting.until_shown(agent, 1, list(range(1, 101)))
    setting.bus.stored.clear()
    setting.registry.repair()
    await _until(lambda: not agent.open)
    assert agent.ending is not None
    assert agent.ending.reconnect_after is not None


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_is_reordered_lost_or_repeated_each_stream_is_complete(seed: int) -> None:  # noqa: C901, PLR0912  # a list of what can happen
    chance = random.Random(seed)
    setting = Setting(resume_limit=chance.choice([3, 1000]))
    sessions = [setting.sessions.open(1, CUSTOMER, AGENT), setting.sessions.open(2, 12)]
    streams: dict[Connection, dict[int, int]] = {}
    waiting: list[Callable[[], None]] = []

    def fail_sometimes() -> None:
        if chance.random() < 0.1:
            raise Unavailable("the bus is away")

    setting.bus.before_read = fail_sometimes
    for _ in range(chance.randrange(60, 160)):
        session = chance.choice(sessions)
        match chance.randrange(10):
            case 0 | 1 | 2:
                waiting.append(setting.sessions.say(session))
            case 3:
                waiting.append(setting.sessions.note(session))
            case 4:
                waiting += setting.sessions.change(session, chance.choice([0, AGENT, OTHER]))
            case 5:
                cursors = {each.id: chance.choice([0, *setting.stored(each.id)]) for each in sessions}
                streams[await setting.connect(chance.choice([CUSTOMER, 12, AGENT, OTHER]), cursors)] = cursors
            case 6 if streams and chance.random() < 0.3:
                stream = chance.choice(list(streams))
                for each in sessions:
                    _check(setting, stream, each.id, streams[stream][each.id])
                await setting.registry.detach(stream)
                del streams[stream]
            case 7 if chance.random() < 0.2:
                setting.registry.repair()
            case 8 if waiting and chance.random() < 0.3:
                # The bus was cut off: what it would have sent is lost, and it says so.
                waiting.clear()
                setting.registry.repair()
            case _:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
        while waiting and chance.random() < 0.6:
            waiting.pop(0 if chance.random() < 0.7 else chance.randrange(len(waiting)))()
    for heard in waiting:
        heard()
    setting.bus.before_read = lambda: None
    setting.registry.repair()
    for session in sessions:
        last = setting.sessions.say(session, "the last")
        last()
        final = setting.bus.last_seq
        for stream, cursors in streams.items():
            if stream.principal.user_id in (session.customer_id, session.agent_id):
                await _until(lambda s=stream, i=session.id, f=final: setting.positions(s, i)[-1:] == [f])  # type: ignore[misc]
                _check(setting, stream, session.id, cursors[session.id], complete=True)
            else:
                _check(setting, stream, session.id, cursors[session.id])


def _check(setting: Setting, stream: Connection, session_id: int, cursor: int, *, complete: bool = False) -> None:
    """Each entry once, in order; none left out, unless a marker names from where on they follow.

    Customers are shown no notes, and nothing tells that there are any: an entry names the one before that was shown.
    """
    assert stream.open
    seen = setting.positions(stream, session_id)
    stored = setting.stored(session_id)
    if stream.principal.user_id < AGENT:
        stored = [seq for seq in stored if seq not in setting.sessions.notes]
    begun = False
    assert seen == sorted(set(seen))
    position = cursor
    marked = 0
    for frame in setting.frames[stream]:
        if frame.too_old.session_id == session_id:
            marked = frame.too_old.first_seq
        if frame.message.session_id == session_id:
            missed = [seq for seq in stored if position < seq < max(frame.message.seq, marked)]
            follows = next((seq for seq in stored if seq >= marked), 0)
            assert not missed or frame.message.seq == follows, (missed, marked, frame.message.seq)
            assert not begun or marked > position or frame.message.previous_seq == position
            begun = True
            position = frame.message.seq
    if complete:
        assert position == stored[-1]


async def test_a_catch_up_that_fails_ends_the_stream_so_that_the_client_connects_again() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    setting.sessions.say(session)()

    def fail() -> None:
        raise RuntimeError("not an error of the bus")

    setting.bus.before_read = fail
    agent = await setting.connect(AGENT)
    await _until(lambda: not agent.open)
    goodbye = shown(agent)[-1].goodbye
    assert goodbye.reason == errors_pb2.REASON_INTERNAL
    assert goodbye.HasField("reconnect_after")
    await setting.registry.detach(agent)

    setting.bus.before_read = lambda: None
    again = await setting.connect(AGENT)
    await setting.until_shown(again, 1, [1])


async def test_a_repair_that_fails_ends_the_streams_too() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    agent = await setting.connect(AGENT)
    setting.sessions.say(session)()
    await setting.until_shown(agent, 1, [1])

    def fail() -> None:
        raise RuntimeError("not an error of the bus")

    setting.bus.before_read = fail
    setting.sessions.say(session)
    setting.sessions.say(session)()
    await _until(lambda: not agent.open)


async def test_an_entry_that_nobody_can_read_is_left_out_and_the_rest_is_shown() -> None:
    setting = Setting()
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    agent = await setting.connect(AGENT)
    setting.sessions.say(session)()
    setting.bus.store(f"log.fakes.{session.id}", b"\xff\xff\xff")()
    setting.sessions.say(session)()
    await setting.until_shown(agent, 1, [1, 3])
    late = await setting.connect(AGENT)
    await setting.until_shown(late, 1, [1, 3])


async def test_entries_that_come_during_a_replay_are_not_held_by_the_stream() -> None:
    setting = Setting(resume_limit=10)
    session = setting.sessions.open(1, CUSTOMER, AGENT)
    for _ in range(30):
        setting.sessions.say(session)()
    slow = connection(AGENT, frames=8)
    setting.frames[slow] = []
    await setting.registry.attach(slow, {})
    for _ in range(3000):
        setting.sessions.say(session)()
        await asyncio.sleep(0)
    follower = setting.registry.follower(slow, 1)
    assert follower is not None
    assert follower.room is not None
    # The stream holds half a buffer, the room its newest entries, and all the rest is in the log.
    assert len(slow._queue) <= 8
    assert len(follower.room.tail._entries) <= 10
    await _until(lambda: setting.positions(slow, 1)[-1:] == [3030])
    seen = setting.positions(slow, 1)
    assert seen == list(range(seen[0], 3031))


def test_posts_whose_echo_never_comes_are_forgotten() -> None:
    own = OwnPosts()
    for message_id in range(10_000):
        own.add(message_id)
    assert len(own) <= 256
    assert own.discard(9_999)
    assert not own.discard(0)


async def test_who_left_everything_is_remembered_by_nothing() -> None:
    setting = Setting()
    for number in range(50):
        setting.sessions.open(number + 1, CUSTOMER + 100 * number, AGENT)
    agent = await setting.connect(AGENT)
    await setting.registry.detach(agent)
    assert setting.registry.follower(agent, 1) is None
    assert not setting.registry.connections
    assert not any(room.followers for room in setting.registry.rooms._rooms.values())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)
