"""Settle a message or a batch: handle it, retry it, have it redelivered, or move it to the dead letters.

`mesh.bus.consume` lists the possible outcomes of a message.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Generic, TypeAlias, TypeVar

import structlog
from google.protobuf.message import Message

from mesh.bus import measure, tracing
from mesh.bus.delivery import BatchHandler, Delivery, Handler
from mesh.bus.errors import Poison
from mesh.bus.handling import HandlerStuck, HandlerTimeout, bounded
from mesh.bus.held import Held
from mesh.bus.pull import Pulled
from mesh.bus.retry import judge, pause

M = TypeVar("M", bound=Message)

_log = structlog.get_logger(__name__)


# How often a batch may time out before its messages are tried one by one, and how many of those in a row may.
_BATCH_TIMEOUTS: Final = 3
_SINGLE_TIMEOUTS: Final = 2


class Lane(Generic[M]):
    """The messages of one key that wait for their turn; `parked` while a handler ignores its cancellation."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Pulled, Delivery[M]]] = deque()
        self.parked = False


Batch: TypeAlias = list[tuple[Pulled, Delivery[M]]]


class Settling(Generic[M]):
    """Settles the messages of one consumer until `stopping` is set."""

    def __init__(
        self,
        held: Held,
        *,
        stream: str,
        durable: str,
        max_deliveries: int,
        deadline: float,
        stopping: asyncio.Event,
    ) -> None:
        self._held = held
        self._stream = stream
        self._durable = durable
        self._max_deliveries = max_deliveries
        self._deadline = deadline
        self._stopping = stopping
        self._last_success = 0.0
        self._timeouts = 0

    async def alone(self, pulled: Pulled, delivery: Delivery[M], handler: Handler[M]) -> None:
        """Handle a message that no other waits for; after a failure of its own it is redelivered."""
        await self._settle(pulled, delivery, handler)

    async def in_turn(self, pulled: Pulled, delivery: Delivery[M], handler: Handler[M], lane: Lane[M]) -> None:
        """Handle a message that those in `lane` wait for: pauses are taken here, and it is not redelivered."""
        await self._settle(pulled, delivery, handler, lane=lane)

    async def together(self, batch: Batch[M], handler: BatchHandler[M]) -> None:
        """Handle a batch; after a failure that is not temporary, handle it message by message."""
        pauses = timeouts = 0
        while batch:
            try:
                with self._measured(batch[0][0]):
                    await bounded(handler([delivery for _, delivery in batch]), seconds=self._deadline)
            except Exception as error:  # noqa: BLE001  # judged, logged, and the messages tried again
                pauses += 1
                timeouts = timeouts + 1 if isinstance(error, HandlerTimeout) else 0
                passing, wait = judge(error, pauses)
                passing = passing or 0 < timeouts < _BATCH_TIMEOUTS
                self._report(error, batch[0][0], wait, passing=passing, batch=len(batch))
                if passing:
                    if await self._stopped_within(wait):
                        return
                    continue
                batch = await self._one_by_one(batch, handler)
                timeouts = 0
                continue
            await self._held.acknowledge_all([pulled for pulled, _ in batch])
            return

    async def _one_by_one(self, batch: Batch[M], handler: BatchHandler[M]) -> Batch[M]:
        """Handle a batch message by message, so that one bad message does not fail the others.

        Return the remaining ones when two in a row timed out: then the messages are not the cause.
        """

        async def one(delivery: Delivery[M]) -> None:
            await handler([delivery])

        in_a_row = 0
        for number, (pulled, delivery) in enumerate(batch):
            if self._stopping.is_set():
                return []
            timeouts = self._timeouts
            await self._settle(pulled, delivery, one, blamed=True)
            in_a_row = in_a_row + 1 if self._timeouts > timeouts else 0
            if in_a_row == _SINGLE_TIMEOUTS:
                return batch[number + 1 :]
        return []

    async def _settle(
        self,
        pulled: Pulled,
        delivery: Delivery[M],
        handler: Handler[M],
        *,
        lane: Lane[M] | None = None,
        blamed: bool = False,
    ) -> None:
        """Handle a message until it is settled. With `blamed`, a timeout always counts as the message's own failure."""
        failures = pulled.attempts - 1
        pauses = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                with self._measured(pulled):
                    await bounded(handler(delivery), seconds=self._deadline)
            except Poison as error:
                await self._held.bury(pulled, error)
                return
            except Exception as error:  # noqa: BLE001  # judged, logged, and the message tried again or buried
                pauses += 1
                passing, wait = judge(error, pauses)
                if isinstance(error, HandlerTimeout):
                    self._timeouts += 1
                    # When no other message was handled in the meantime, something that all of them need is unreachable.
                    passing = not blamed and self._last_success < began
                if isinstance(error, HandlerStuck) and lane is None:
                    passing = False
                if not passing:
                    failures += 1
                    wait = pause(failures)
                self._report(error, pulled, wait, passing=passing)
                if isinstance(error, HandlerStuck):
                    await self._outlast(error, pulled, lane)
                if not passing and failures >= self._max_deliveries:
                    await self._held.bury(pulled, error)
                    return
                if not passing and lane is None:
                    await self._held.give_back(pulled, pause=wait)
                    return
                if await self._stopped_within(wait):
                    return
            else:
                self._last_success = asyncio.get_running_loop().time()
                await self._held.acknowledge(pulled)
                return

    async def _outlast(self, stuck: HandlerStuck, pulled: Pulled, lane: Lane[M] | None) -> None:
        """Keep a key in order while a cancelled handler of it still runs, without counting its messages."""
        stuck.task.add_done_callback(_retrieve)
        if lane is None:
            return
        lane.parked = True
        self._held.park([pulled, *(waiting for waiting, _ in lane.waiting)])
        await asyncio.wait((stuck.task,))
        lane.parked = False
        self._held.unpark([pulled, *(waiting for waiting, _ in lane.waiting)])

    @contextmanager
    def _measured(self, pulled: Pulled) -> Iterator[None]:
        with (
            tracing.handling(self._durable, pulled.headers, seq=pulled.seq),
            measure.handling_seconds.labels(self._durable).time(),
        ):
            yield

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait; return whether the consumer was stopped in the meantime."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    def _report(self, error: Exception, pulled: Pulled, wait: float, *, passing: bool, **more: object) -> None:
        _log.warning(
            "message not handled, retrying",
            stream=self._stream,
            durable=self._durable,
            seq=pulled.seq,
            attempts=pulled.attempts,
            pause_s=round(wait, 2),
            error=type(error).__name__,
            # An outage fails many messages; a traceback for each would hide the rest.
            exc_info=None if passing else error,
            **more,
        )


def _retrieve(task: "asyncio.Task[None]") -> None:
    """Retrieve the result of a handler that is no longer awaited."""
    if not task.cancelled():
        task.exception()
