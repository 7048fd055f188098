"""Frames of one session are dealt with in order, those of another do not wait for them."""

from __future__ import annotations

import asyncio

import pytest
from octopus.chat.v1 import frame_pb2

from services.chat.inbox import MOST_UNDER_WAY, Inbox

pytestmark = pytest.mark.unit


class Desk:
    """Handle a frame when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._doors: dict[str, asyncio.Event] = {}

    def door(self, name: str) -> asyncio.Event:
        return self._doors.setdefault(name, asyncio.Event())

    async def take(self, frame: frame_pb2.ClientFrame) -> None:
        name = frame.post.client_message_id or "sign"
        self.begun.append(name)
        await self.door(name).wait()


def post(session_id: int, name: str) -> frame_pb2.ClientFrame:
    return frame_pb2.ClientFrame(post=frame_pb2.PostMessage(session_id=session_id, client_message_id=name))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_sessions_do_not_wait_for_each_other_and_messages_of_one_do() -> None:
    desk = Desk()
    inbox = Inbox(desk.take)
    for session_id, name in ((1, "a"), (1, "b"), (2, "c")):
        inbox.put(post(session_id, name))
    inbox.put(frame_pb2.ClientFrame(typing=frame_pb2.Typing(session_id=1)))
    await turns()
    assert desk.begun == ["a", "c", "sign"]
    desk.door("a").set()
    await turns()
    assert desk.begun == ["a", "c", "sign", "b"]
    inbox.put(post(1, "d"))
    for name in ("b", "c", "d", "sign"):
        desk.door(name).set()
    await turns()
    assert desk.begun[-1] == "d"
    assert inbox.under_way == 0


async def test_whoever_reads_waits_while_too_much_is_under_way() -> None:
    desk = Desk()
    inbox = Inbox(desk.take)
    for number in range(MOST_UNDER_WAY):
        inbox.put(post(number + 1, f"number-{number}"))
    waiting = asyncio.create_task(inbox.room())
    await turns()
    assert not waiting.done()
    desk.door("number-7").set()
    await turns()
    assert waiting.done()
    inbox.close()


async def test_idle_is_told_once_and_nothing_goes_on_after_a_close() -> None:
    desk = Desk()
    inbox = Inbox(desk.take)
    told: list[str] = []
    inbox.when_idle(lambda: told.append("at once"))
    inbox.put(post(1, "a"))
    inbox.put(post(1, "b"))
    inbox.when_idle(lambda: told.append("later"))
    desk.door("a").set()
    await turns()
    assert told == ["at once"]
    desk.door("b").set()
    await turns()
    assert told == ["at once", "later"]
    inbox.put(post(1, "c"))
    inbox.put(post(1, "d"))
    await turns()
    inbox.close()
    desk.door("c").set()
    await turns()
    assert desk.begun == ["a", "b", "c"]
