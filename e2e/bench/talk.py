"""Two people of the load who talk. Thinner than `e2e.clients.participant`: no books are kept, nothing is sent twice."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from octopus.chat.v1 import frame_pb2, message_pb2

from e2e.clients.edge import Identity
from e2e.clients.transports import Stream, Transport

# About as long as a question in a shop.
_CONTENT = message_pb2.Content(text=message_pb2.Text(text="你好，我昨天下单的那件风衣什么时候可以发货？"))


class Party:
    """One connection of one person."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        # What is done when the frame about a message comes, by client message id.
        self.waiting: dict[str, Callable[[frame_pb2.ServerFrame], None]] = {}
        self._online = asyncio.Event()

    @staticmethod
    async def connect(
        transport: Transport, identity: Identity, stack: AsyncExitStack, tasks: list[asyncio.Task[None]]
    ) -> Party:
        """Connect somebody and return when they are welcome; their reading is added to `tasks`."""
        party = Party(await stack.enter_async_context(transport.open(identity, frame_pb2.Hello())))
        reading = asyncio.create_task(party._read())
        online = asyncio.create_task(party._online.wait())
        await asyncio.wait((reading, online), return_when=asyncio.FIRST_COMPLETED)
        if not online.done():
            online.cancel()
            reading.result()
        tasks.append(reading)
        return party

    async def _read(self) -> None:
        async for frame in self.stream.frames():
            match frame.WhichOneof("frame"):
                case "message":
                    self._tell(frame.message.client_message_id, frame)
                case "ack":
                    self._tell(frame.ack.client_message_id, frame)
                case "refusal":
                    self._tell(frame.refusal.client_message_id, frame)
                case "ping":
                    pong = frame_pb2.Pong(nonce=frame.ping.nonce)
                    await self.stream.send(frame_pb2.ClientFrame(pong=pong))
                case "welcome":
                    self._online.set()
        raise ConnectionError("the server ended a stream")

    def _tell(self, message_id: str, frame: frame_pb2.ServerFrame) -> None:
        waiter = self.waiting.pop(message_id, None)
        if waiter is not None:
            waiter(frame)


class Talk:
    """A conversation in which one says things and the other hears them."""

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
        self._listener.waiting[message_id] = lambda _frame: heard.set_result(time.monotonic())
        self._speaker.waiting[message_id] = lambda frame: acknowledged.set_result(frame.HasField("ack"))
        post = frame_pb2.PostMessage(session_id=self._session_id, client_message_id=message_id, content=_CONTENT)
        began = time.monotonic()
        await self._speaker.stream.send(frame_pb2.ClientFrame(post=post))
        if not await acknowledged:
            self._listener.waiting.pop(message_id, None)
            return None
        return await heard - began
