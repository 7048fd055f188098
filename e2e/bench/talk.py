"""Two people of the load who talk. Thinner than `e2e.clients.participant`: no books are kept, nothing is sent twice."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from octopus.chat.v1 import frame_pb2, message_pb2

from e2e.bench.wire import Opener, Wire
from e2e.clients.edge import Identity

T = TypeVar("T")

# About as long as a question in a shop.
_CONTENT = message_pb2.Content(text=message_pb2.Text(text="你好，我昨天下单的那件风衣什么时候可以发货？"))


class Party:
    """One connection of one person."""

    def __init__(self) -> None:
        # What is done when the frame about a message comes, by client message id.
        self.waiting: dict[str, Callable[[frame_pb2.ServerFrame], None]] = {}
        self.wire: Wire | None = None
        self._online = asyncio.Event()
        self._pongs: set[asyncio.Task[None]] = set()

    @staticmethod
    async def connect(
        opener: Opener, identity: Identity, stack: AsyncExitStack, tasks: list[asyncio.Task[None]]
    ) -> Party:
        """Connect somebody and return when they are welcome; that they stay connected is added to `tasks`."""
        party = Party()
        wire = party.wire = await opener(identity, party._take, stack)
        staying = asyncio.create_task(_stay(wire))
        online = asyncio.create_task(party._online.wait())
        await asyncio.wait((staying, online), return_when=asyncio.FIRST_COMPLETED)
        if not online.done():
            online.cancel()
            staying.result()
        tasks.append(staying)
        return party

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        """Send a frame."""
        if self.wire is not None:
            await self.wire.send(frame)

    def _take(self, frame: frame_pb2.ServerFrame) -> None:
        match frame.WhichOneof("frame"):
            case "message":
                self._tell(frame.message.client_message_id, frame)
            case "ack":
                self._tell(frame.ack.client_message_id, frame)
            case "refusal":
                self._tell(frame.refusal.client_message_id, frame)
            case "ping":
                pong = frame_pb2.ClientFrame(pong=frame_pb2.Pong(nonce=frame.ping.nonce))
                task = asyncio.create_task(self.send(pong))
                self._pongs.add(task)
                task.add_done_callback(self._pongs.discard)
            case "welcome":
                self._online.set()

    def _tell(self, message_id: str, frame: frame_pb2.ServerFrame) -> None:
        waiter = self.waiting.pop(message_id, None)
        if waiter is not None:
            waiter(frame)


async def _stay(wire: Wire) -> None:
    await wire.ended()
    raise ConnectionError("the server ended a stream")


class Talk:
    """A conversation in which one side posts and the other receives."""

    def __init__(self, session_id: int, speaker: Party, listener: Party) -> None:
        self._session_id = session_id
        self._speaker = speaker
        self._listener = listener
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count()

    async def say(self) -> float | None:
        """Say one thing; returns, when it is heard and acknowledged, the seconds until it was heard."""
        message_id = f"{self._run}-{next(self._numbers)}"
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[float] = loop.create_future()
        acknowledged: asyncio.Future[bool] = loop.create_future()
        self._listener.waiting[message_id] = lambda _frame: _settle(heard, time.monotonic())
        self._speaker.waiting[message_id] = lambda frame: _settle(acknowledged, frame.HasField("ack"))
        post = frame_pb2.PostMessage(session_id=self._session_id, client_message_id=message_id, content=_CONTENT)
        began = time.monotonic()
        await self._speaker.send(frame_pb2.ClientFrame(post=post))
        if not await acknowledged:
            self._listener.waiting.pop(message_id, None)
            return None
        return await heard - began


def _settle(future: asyncio.Future[T], result: T) -> None:
    # At the end of a measurement the lane is cancelled, and its future with it.
    if not future.done():
        future.set_result(result)
