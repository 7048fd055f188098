"""Durable consumers: every message of a stream is handled at least once, or ends among the dead letters.

What becomes of a message, by how its handler ends:

- it returns: acknowledged, and never delivered again;
- it raises `Poison`, or the payload is not of the expected type: to the dead letters at once;
- it raises an error that says "unavailable" or "rate limited" (by `mesh.errors`): something it needs is away. The
  message is kept and tried again, with growing pauses, for as long as it takes;
- it raises anything else: given back, delivered again after a growing pause, and after `max_deliveries` attempts to the
  dead letters. With a `key`, the pause is taken here instead, so that no later message of the key overtakes.

Dead letters lie in the stream DEAD under `dead.<stream>.<durable>` with the original payload and headers, and why.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import structlog
from google.protobuf.message import Message
from nats.errors import Error as NatsError
from nats.js import api

from mesh.bus import measure, payload, tracing
from mesh.bus.client import Client
from mesh.bus.dead import DeadLetters
from mesh.bus.errors import Poison
from mesh.bus.patience import LONGEST_PAUSE_S, judge, nak, pause
from mesh.bus.publish import Publisher
from mesh.bus.pull import Feed, Pulled
from mesh.bus.replies import Replies

M = TypeVar("M", bound=Message)

_log = structlog.get_logger(__name__)

# How long the server waits for news of a message before it gives it to somebody else, in seconds. News is sent three
# times as often, so a handler may take its time, and what a killed process held is soon somebody else's.
ACK_WAIT_S = 6.0
# How long a stop waits for handlers that run.
_DRAIN_S = 5.0
_OUTCOMES = {b"+ACK": "done", b"-NAK": "again", b"+TER": "dead"}


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """A message for a handler. `attempts` is 1 at the first delivery; `time` is when the stream stored it."""

    message: M
    seq: int
    subject: str
    headers: Mapping[str, str]
    attempts: int
    time: datetime


Handler = Callable[[Delivery[M]], Awaitable[None]]
BatchHandler = Callable[[list[Delivery[M]]], Awaitable[None]]


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
        deliver_new: bool,
    ) -> None:
        self._client = client
        self._dead = DeadLetters(publisher, stream, durable)
        self._stream = stream
        self._durable = durable
        self._type = message_type
        self._max_deliveries = max_deliveries
        self._held: dict[str, Pulled] = {}
        # What nobody wants, until it is acknowledged.
        self._unwanted: deque[Pulled] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        config = api.ConsumerConfig(
            name=durable,
            durable_name=durable,
            filter_subjects=list(subjects),
            deliver_policy=api.DeliverPolicy.NEW if deliver_new else api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            # Counted here: the server would drop the message silently.
            max_deliver=-1,
            # Shared by all instances; each holds at most max_in_flight.
            max_ack_pending=max(1000, 8 * max_in_flight),
        )
        self.feed = Feed(
            client, replies, stream, durable, config, take=self._take, room=lambda: max_in_flight - len(self._held)
        )
        self._accept: Callable[[Pulled], None]

    async def run(
        self,
        handler: Handler[M],
        *,
        key: Callable[[M], Hashable] | None,
        wanted: Callable[[M], bool] = lambda _message: True,
    ) -> None:
        """Hands messages to `handler`, up to `max_in_flight` at once; with a `key`, those of one key in turn.

        Those that are not `wanted` are acknowledged at once.
        """
        lanes: dict[Hashable, deque[tuple[Pulled, Delivery[M]]]] = {}

        async def drive(lane_key: Hashable) -> None:
            lane = lanes[lane_key]
            try:
                while lane and not self._stopping.is_set():
                    pulled, delivery = lane.popleft()
                    await self._settle(pulled, delivery, handler, keep=True)
            finally:
                del lanes[lane_key]

        def accept(pulled: Pulled) -> None:
            delivery = self._open(pulled)
            if delivery is None:
                return
            if not wanted(delivery.message):
                self._pass_over(pulled)
                return
            if key is None:
                self._spawn(self._settle(pulled, delivery, handler, keep=False))
                return
            try:
                lane_key = key(delivery.message)
            except Exception as error:  # noqa: BLE001  # nobody can handle a message that has no key
                self._spawn(self._bury(pulled, error))
                return
            lane = lanes.get(lane_key)
            if lane is not None:
                lane.append((pulled, delivery))
                return
            lanes[lane_key] = deque([(pulled, delivery)])
            self._spawn(drive(lane_key))

        self._accept = accept
        await self._run()

    async def run_batches(self, handler: BatchHandler[M], *, size: int, wait: float) -> None:
        """Hands up to `size` messages at once to `handler`, at most `wait` seconds after the first of them came."""
        waiting: list[tuple[Pulled, Delivery[M]]] = []
        some, enough = asyncio.Event(), asyncio.Event()

        def accept(pulled: Pulled) -> None:
            delivery = self._open(pulled)
            if delivery is None:
                return
            waiting.append((pulled, delivery))
            some.set()
            if len(waiting) >= size:
                enough.set()

        async def gather() -> None:
            while True:
                await some.wait()
                with suppress(TimeoutError):
                    # One timer a batch: one a message would cost more than the message.
                    async with asyncio.timeout(wait):
                        await enough.wait()
                batch = waiting[:size]
                del waiting[:size]
                if not waiting:
                    some.clear()
                if len(waiting) < size:
                    enough.clear()
                await asyncio.shield(self._spawn(self._settle_batch(batch, handler)))

        self._accept = accept
        await self._run(gather())

    async def _run(self, *more: "Awaitable[None]") -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.feed.run(), name=f"feed {self._durable}")
                group.create_task(self._keep_alive(), name=f"keep alive {self._durable}")
                for work in more:
                    group.create_task(_awaited(work), name=f"batches {self._durable}")
        finally:
            await self._drain()

    async def _drain(self) -> None:
        """Lets running handlers finish and gives back what nobody has begun."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pulled in list(self._held.values()):
            await self._answer(pulled, b"-NAK")

    def _take(self, pulled: Pulled) -> None:
        self._held[pulled.ack_subject] = pulled
        if not self._stopping.is_set():
            self._accept(pulled)

    def _open(self, pulled: Pulled) -> Delivery[M] | None:
        """Decodes a message; to the dead letters with what cannot be, or has killed its consumers again and again."""
        try:
            self._check(pulled)
            message = payload.decode(pulled.data, pulled.headers, self._type)
        except Poison as error:
            self._spawn(self._bury(pulled, error))
            return None
        return Delivery(message, pulled.seq, pulled.subject, pulled.headers, pulled.attempts, pulled.time)

    def _pass_over(self, pulled: Pulled) -> None:
        """Acknowledges a message without ado: one task for all that came together."""
        self._unwanted.append(pulled)
        if len(self._unwanted) == 1:
            self._spawn(self._acknowledge_unwanted())

    async def _acknowledge_unwanted(self) -> None:
        while self._unwanted:
            await self._answer(self._unwanted[0], b"+ACK")
            self._unwanted.popleft()

    def _check(self, pulled: Pulled) -> None:
        if pulled.attempts > self._max_deliveries:
            raise Poison(f"delivered {pulled.attempts} times without an answer")

    async def _settle(self, pulled: Pulled, delivery: Delivery[M], handler: Handler[M], *, keep: bool) -> None:
        """Handles one message to its end. With `keep`, every pause is taken here and the message is not given back."""
        failures = pulled.attempts - 1
        pauses = 0
        while True:
            try:
                with self._handling(pulled):
                    await handler(delivery)
            except Poison as error:
                await self._bury(pulled, error)
                return
            except Exception as error:  # noqa: BLE001  # judged, logged, and the message tried again or buried
                pauses += 1
                passing, wait = judge(error, pauses)
                if not passing:
                    failures += 1
                    if failures >= self._max_deliveries:
                        await self._bury(pulled, error)
                        return
                    wait = pause(failures)
                self._report(error, pulled, wait, passing=passing)
                if not passing and not keep:
                    await self._answer(pulled, nak(wait))
                    return
                if await self._stopped_within(wait):
                    return
            else:
                await self._answer(pulled, b"+ACK")
                return

    async def _settle_batch(self, batch: list[tuple[Pulled, Delivery[M]]], handler: BatchHandler[M]) -> None:
        async def one(delivery: Delivery[M]) -> None:
            await handler([delivery])

        pauses = 0
        while True:
            try:
                with self._handling(batch[0][0]):
                    await handler([delivery for _, delivery in batch])
            except Exception as error:  # noqa: BLE001  # judged, logged, and the messages tried again
                pauses += 1
                passing, wait = judge(error, pauses)
                self._report(error, batch[0][0], wait, passing=passing, batch=len(batch))
                if passing:
                    if await self._stopped_within(wait):
                        return
                    continue
                # One by one, so that a bad message does not take its neighbours with it.
                for pulled, delivery in batch:
                    await self._settle(pulled, delivery, one, keep=False)
                return
            for pulled, _ in batch:
                await self._answer(pulled, b"+ACK")
            return

    @contextmanager
    def _handling(self, pulled: Pulled) -> Iterator[None]:
        with (
            tracing.handling(self._durable, pulled.headers, seq=pulled.seq),
            measure.handling_seconds.labels(self._durable).time(),
        ):
            yield

    async def _stopped_within(self, seconds: float) -> bool:
        """Waits; returns whether the consumer was stopped meanwhile, and what it holds is to be given back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    def _report(self, error: Exception, pulled: Pulled, wait: float, *, passing: bool, **more: object) -> None:
        _log.warning(
            "message not handled, trying again",
            stream=self._stream,
            durable=self._durable,
            seq=pulled.seq,
            attempts=pulled.attempts,
            pause_s=round(wait, 2),
            error=type(error).__name__,
            # What is away is away for many messages; its traceback once each would hide the rest.
            exc_info=None if passing else error,
            **more,
        )

    async def _bury(self, pulled: Pulled, error: Exception) -> None:
        """Moves the message to the dead letters. When they do not take it, it is given back."""
        stored = await self._dead.store(pulled, error)
        await self._answer(pulled, b"+TERM" if stored else nak(LONGEST_PAUSE_S))

    async def _answer(self, pulled: Pulled, verdict: bytes) -> None:
        """Tells the server what became of a message. If that is lost, the message is delivered again."""
        self._held.pop(pulled.ack_subject, None)
        measure.handled_as(self._durable, _OUTCOMES[verdict[:4]]).inc()
        try:
            await self._client.publish(pulled.ack_subject, verdict)
        except (NatsError, OSError) as error:
            _log.warning(
                "verdict not sent", stream=self._stream, durable=self._durable, seq=pulled.seq, error=repr(error)
            )
        self.feed.stir()

    async def _keep_alive(self) -> None:
        """Tells the server that held messages are being worked on, so that nobody else gets them."""
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            with suppress(NatsError, OSError):
                if self._client.is_connected:
                    for ack_subject in list(self._held):
                        await self._client.publish(ack_subject, b"+WPI")

    def _spawn(self, work: "Awaitable[None]") -> asyncio.Task[None]:
        task = asyncio.ensure_future(_awaited(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "consumer's task failed; its message will be delivered again", durable=self._durable, exc_info=error
            )


async def _awaited(work: "Awaitable[None]") -> None:
    await work
