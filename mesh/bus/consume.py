"""Durable consumers: every message of a stream is handled at least once, or moved to the dead letters.

The outcome of a message, by how its handler ends:

- it returns: acknowledged, and never delivered again;
- it raises `Poison`, or the payload is not of the expected type: to the dead letters at once;
- it raises an error that says "unavailable", "rate limited" or "storage full" (by `mesh.errors`): something it needs is
  unreachable. The message is kept and retried with growing pauses, without limit;
- it raises anything else: returned to the server, redelivered after a growing pause, and after `max_deliveries`
  attempts to the dead letters. With a `key`, the pause is taken here instead, so that no later message of the key
  overtakes;
- it does not end before its deadline: cancelled, then as "unavailable" while no other message is handled either, else
  as "anything else". One that ignores its cancellation keeps only the messages of its own key waiting.

Dead letters are in the stream DEAD under `dead.<stream>.<durable>`, with the original payload and headers and the
reason.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import structlog
from google.protobuf.message import Message

from mesh.bus import payload
from mesh.bus.client import Client
from mesh.bus.dead import DeadLetters
from mesh.bus.delivery import BatchHandler, Delivery, Handler
from mesh.bus.errors import Poison
from mesh.bus.held import Held
from mesh.bus.origin import consumed_rightly
from mesh.bus.publish import Publisher
from mesh.bus.pull import Feed, Pulled
from mesh.bus.replies import Replies
from mesh.bus.settle import Batch, Lane, Settling

M = TypeVar("M", bound=Message)

_log = structlog.get_logger(__name__)

# How long a handler may take, in seconds, unless its consumer sets another limit.
DEADLINE_S: Final = 30.0
# How long a stop waits for running handlers, and then for those it cancels.
_DRAIN_S: Final = 5.0
_CANCEL_S: Final = 1.0


class Consumer(Generic[M]):
    """One durable consumer in this process. `run` until cancelled; cancelling drains it."""

    def __init__(
        self,
        client: Client,
        replies: Replies,
        publisher: Publisher,
        message_type: type[M],
        *,
        stream: str,
        durable: str,
        subjects: Sequence[str],
        max_in_flight: int,
        max_deliveries: int,
        deadline: float,
    ) -> None:
        self._durable = durable
        self._type = message_type
        self._max_deliveries = max_deliveries
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        dead = DeadLetters(publisher, stream, durable)
        self._held = Held(client, dead, stream, durable, on_room=self._on_room)
        self._settling: Settling[M] = Settling(
            self._held,
            stream=stream,
            durable=durable,
            max_deliveries=max_deliveries,
            deadline=deadline,
            stopping=self._stopping,
        )
        self.feed = Feed(
            client,
            replies,
            stream,
            durable,
            subjects,
            take=self._take,
            room=lambda: max_in_flight - self._held.working,
        )
        self._accept: Callable[[Pulled], None]

    async def run(
        self,
        handler: Handler[M],
        *,
        key: Callable[[M], Hashable] | None,
        wanted: Callable[[M], bool] = lambda _message: True,
    ) -> None:
        """Hand messages to `handler`, up to `max_in_flight` at once; with a `key`, those of one key in turn.

        Those that are not `wanted` are acknowledged at once.
        """
        lanes: dict[Hashable, Lane[M]] = {}

        async def drive(lane_key: Hashable) -> None:
            lane = lanes[lane_key]
            try:
                while lane.waiting and not self._stopping.is_set():
                    pulled, delivery = lane.waiting.popleft()
                    await self._settling.in_turn(pulled, delivery, handler, lane)
            finally:
                del lanes[lane_key]

        def accept(pulled: Pulled) -> None:
            message = self._open(pulled)
            if message is None:
                return
            if not wanted(message):
                if self._held.pass_over(pulled):
                    self._spawn(self._held.acknowledge_unwanted())
                return
            delivery = _delivery(message, pulled)
            if key is None:
                self._spawn(self._settling.alone(pulled, delivery, handler))
                return
            try:
                lane_key = key(message)
            except Exception as error:  # noqa: BLE001  # nobody can handle a message that has no key
                self._spawn(self._held.bury(pulled, error))
                return
            lane = lanes.get(lane_key)
            if lane is None:
                lane = lanes[lane_key] = Lane()
                self._spawn(drive(lane_key))
            lane.waiting.append((pulled, delivery))
            if lane.parked:
                self._held.park([pulled])

        self._accept = accept
        await self._run()

    async def run_batches(self, handler: BatchHandler[M], *, size: int, wait: float) -> None:
        """Hand up to `size` messages at once to `handler`, at most `wait` seconds after the first of them arrived."""
        waiting: Batch[M] = []
        some, enough = asyncio.Event(), asyncio.Event()

        def accept(pulled: Pulled) -> None:
            message = self._open(pulled)
            if message is None:
                return
            waiting.append((pulled, _delivery(message, pulled)))
            some.set()
            if len(waiting) >= size:
                enough.set()

        async def gather() -> None:
            while True:
                await some.wait()
                with suppress(TimeoutError):
                    # One timer for each batch: one for each message would cost more than the message.
                    async with asyncio.timeout(wait):
                        await enough.wait()
                batch = waiting[:size]
                del waiting[:size]
                if not waiting:
                    some.clear()
                if len(waiting) < size:
                    enough.clear()
                await asyncio.shield(self._spawn(self._settling.together(batch, handler)))

        self._accept = accept
        await self._run(gather())

    async def _run(self, *more: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.feed.run(), name=f"feed {self._durable}")
                group.create_task(self._held.keep_alive(), name=f"keep alive {self._durable}")
                for work in more:
                    group.create_task(work, name=f"batches {self._durable}")
        finally:
            await self._drain()

    async def _drain(self) -> None:
        """Wait for running handlers, and return messages that are not started to the server."""
        self._stopping.set()
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=_DRAIN_S)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=_CANCEL_S)
        await self._held.give_all_back()

    def _on_room(self) -> None:
        self.feed.stir()

    def _take(self, pulled: Pulled) -> None:
        self._held.add(pulled)
        if not self._stopping.is_set():
            self._accept(pulled)

    def _open(self, pulled: Pulled) -> M | None:
        """Decode a message; one that cannot be decoded, or killed its consumers, goes to the dead letters."""
        try:
            self._check(pulled)
            return payload.decode(pulled.data, pulled.headers, self._type)
        except Poison as error:
            self._spawn(self._held.bury(pulled, error))
            return None

    def _check(self, pulled: Pulled) -> None:
        if not consumed_rightly(pulled.headers):
            raise Poison("an answer of JetStream, reflected to this subject")
        if pulled.attempts > self._max_deliveries:
            raise Poison(f"delivered {pulled.attempts} times without an answer")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"consume {self._durable}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("consumer task failed, message will be redelivered", durable=self._durable, exc_info=error)


def _delivery(message: M, pulled: Pulled) -> Delivery[M]:
    return Delivery(message, pulled.seq, pulled.subject, pulled.headers, pulled.attempts, pulled.time)
