"""What one client has sent and chat has not answered yet."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from octopus.chat.v1 import frame_pb2

# Frames of one client under way at once; a stream is not read beyond.
MOST_UNDER_WAY: Final = 64

Take = Callable[[frame_pb2.ClientFrame], Awaitable[None]]
"""Deals with one frame to its end; must not raise."""

# Signs and receipts of all sessions go one after the other, beside the messages: they may wait for another store.
_SIGNS: Final = -1


class Inbox:
    """Deals with frames: messages of one session in order, those of different sessions side by side.

    So a message waits for the one before it in its session to be durable, and for nothing else. No task lives while
    nothing is under way.
    """

    __slots__ = ("_chains", "_context", "_idle", "_room", "_take", "_tasks", "under_way")

    def __init__(self, take: Take, context: contextvars.Context | None = None) -> None:
        """`context` is where frames are dealt with, the caller's own by default."""
        self._take = take
        self._context = context
        # By session: the frames that wait for the one under way.
        self._chains: dict[int, deque[frame_pb2.ClientFrame]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room: asyncio.Future[None] | None = None
        self._idle: Callable[[], None] | None = None
        self.under_way = 0

    def put(self, frame: frame_pb2.ClientFrame) -> None:
        """Deal with a frame as soon as its turn comes."""
        self.under_way += 1
        session = frame.post.session_id if frame.HasField("post") else _SIGNS
        waiting = self._chains.get(session)
        if waiting is not None:
            waiting.append(frame)
            return
        self._chains[session] = deque()
        task = asyncio.get_running_loop().create_task(self._follow(session, frame), context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def room(self) -> None:
        """Return when another frame may be put."""
        if self.under_way >= MOST_UNDER_WAY:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once no work is running, at once if there is none; a later callback replaces an earlier one."""
        self._idle = call
        if not self.under_way:
            self._tell_idle()

    def close(self) -> None:
        """Drop queued work, and cancel running work: the client is gone."""
        self._chains.clear()
        for task in self._tasks:
            task.cancel()

    async def _follow(self, session: int, frame: frame_pb2.ClientFrame) -> None:
        waiting = self._chains[session]
        while True:
            await self._take(frame)
            self._done()
            if not waiting:
                break
            frame = waiting.popleft()
        if self._chains.get(session) is waiting:
            del self._chains[session]

    def _done(self) -> None:
        self.under_way -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if not self.under_way:
            self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None:
            call, self._idle = self._idle, None
            call()
