"""Snowflake ids: 41 bits of milliseconds since 2026, 10 bits of worker, 12 bits of sequence. Always positive int64.

A worker number is leased in the bucket `workers`. A lease is the right to issue ids with times *before* its end, and
the next holder of the number begins *at* that end. So uniqueness depends on the bucket's compare-and-set alone: a
process that was stopped for an hour, a clock that was set back, or two clocks that differ cannot make a duplicate.

`sonyflake` does not fit: its `next_id` blocks the event loop for as long as the clock was set back, and it has no lower
and upper bound of time, which the lease needs.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import orjson
import structlog

from mesh.bus.errors import BusError, Conflict
from mesh.bus.kv import Entry, KeyValue
from mesh.retrying import retrying
from mesh.telemetry.outage import Outage

_log = structlog.get_logger(__name__)

# 2026-01-01T00:00:00Z in milliseconds since 1970. 41 bits last until 2095.
EPOCH_MS = 1_767_225_600_000
WORKERS = 1 << 10
_SEQUENCES = 1 << 12

_LEASE_S = 30.0
_RETRY_S = 0.5


class LeaseLost(BusError):
    """No ids can be issued: the lease of the worker number has ended, because NATS was unreachable for too long.

    Ids are issued again when NATS is back.
    """

    reason: ClassVar[str] = "UNAVAILABLE"


class IdSource:
    """Issues ids for this process. Made by `lease`; not for use by several threads."""

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _now_ms
        self._worker = 0
        self._sequence = 0
        # The millisecond of the last id, and the first one after the lease.
        self._at = 0
        self._until = 0

    @property
    def worker(self) -> int:
        """Return the leased worker number."""
        return self._worker

    @property
    def reached_ms(self) -> int:
        """Return the first time, in milliseconds since 1970, that no id has reached."""
        return self._at + 1

    def next(self) -> int:
        """Return a new id, greater than all before it from this source, without waiting. Raise LeaseLost.

        More than 4,096 ids in a millisecond, or a clock set back, make the ids' time run ahead of the clock.
        """
        now = self._clock()
        if now > self._at:
            self._at, self._sequence = now, 0
        elif self._sequence < _SEQUENCES - 1:
            self._sequence += 1
        else:
            self._at, self._sequence = self._at + 1, 0
        if self._at >= self._until:
            raise LeaseLost(
                "no new ids: the lease of the Snowflake worker number has ended; "
                "is NATS reachable, and is the clock right?"
            )
        return (self._at - EPOCH_MS) << 22 | self._worker << 12 | self._sequence

    def grant(self, worker: int, since_ms: int, until_ms: int) -> None:
        """Take over a worker number for times from `since_ms` to before `until_ms`; milliseconds since 1970."""
        self._worker = worker
        # The next id begins a new millisecond, and never one before the last.
        self._at = max(since_ms - 1, EPOCH_MS, self._at)
        self._sequence = _SEQUENCES - 1
        self._until = until_ms

    def extend(self, until_ms: int) -> None:
        """Prolong the present grant."""
        self._until = max(self._until, until_ms)

    def end(self) -> None:
        """Issue no more ids."""
        self._until = 0


def time_of(snowflake: int) -> float:
    """Return when an id was issued, in seconds since 1970."""
    return ((snowflake >> 22) + EPOCH_MS) / 1000


@asynccontextmanager
async def lease(
    workers: KeyValue, holder: str, *, seconds: float = _LEASE_S, numbers: int = WORKERS
) -> AsyncIterator[IdSource]:
    """Lease a worker number, renew it in the background, and give it back at the end of the context.

    `holder` is the instance's name, for operators who inspect the bucket. The lease lasts `seconds` and is renewed
    three times as often; of the worker numbers, only those below `numbers` are used. LeaseLost when all of them are
    leased, Unavailable when NATS cannot be reached.
    """
    source = IdSource()
    held = _Lease(workers, f"{holder}/{os.getpid()}", source, seconds, numbers)
    await held.take()
    task = asyncio.create_task(held.keep(), name="id lease")
    try:
        yield source
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        source.end()
        with suppress(BusError):
            await held.release()


class _Lease:
    """One process's lease of a worker number."""

    def __init__(self, workers: KeyValue, holder: str, source: IdSource, seconds: float, numbers: int) -> None:
        self._workers = workers
        self._holder = holder
        self._source = source
        self._seconds = seconds
        self._numbers = numbers
        self._revision = 0
        self._worker = 0

    async def take(self) -> None:
        """Lease any free number: never leased, or its lease has ended. Raise LeaseLost when there is none."""
        numbers = list(range(self._numbers))
        random.shuffle(numbers)
        for worker in numbers:
            entry = await self._workers.get(_key(worker))
            held, since = _state(entry)
            if held and since > _now_ms():
                continue
            since = max(since, _now_ms())
            until = since + int(self._seconds * 1000)
            try:
                if entry is None:
                    self._revision = await self._workers.create(_key(worker), self._value(until))
                else:
                    self._revision = await self._workers.update(
                        _key(worker), self._value(until), revision=entry.revision
                    )
            except Conflict:
                continue
            self._worker = worker
            self._source.grant(worker, since, until)
            _log.info("worker number leased", worker=worker)
            return
        raise LeaseLost(
            f"all {self._numbers} Snowflake worker numbers are leased; wait {self._seconds:.0f} s or stop instances"
        )

    async def keep(self) -> None:
        """Renew until cancelled; take another number when another process has this one."""
        outage = Outage(_log, "worker number not leased, retrying", "worker number leased again", worker=self._worker)
        retry = retrying(outage, BusError, first=_RETRY_S, longest=_RETRY_S)
        while True:
            await asyncio.sleep(self._seconds / 3)
            await retry(self._renew)

    async def release(self) -> None:
        """Give the number back for the time after the last id."""
        given_back = orjson.dumps({"holder": "", "until_ms": self._source.reached_ms})
        await self._workers.update(_key(self._worker), given_back, revision=self._revision)

    async def _renew(self) -> None:
        # A clock that was set back must not shorten the lease: the ids' own time counts too.
        until = max(_now_ms(), self._source.reached_ms) + int(self._seconds * 1000)
        try:
            self._revision = await self._workers.update(_key(self._worker), self._value(until), revision=self._revision)
        except Conflict:
            _log.warning("worker number taken by another process, leasing a new one", worker=self._worker)
            await self.take()
        else:
            self._source.extend(until)

    def _value(self, until_ms: int) -> bytes:
        return orjson.dumps({"holder": self._holder, "until_ms": until_ms})


def _state(entry: Entry | None) -> tuple[bool, int]:
    """Return whether the number is held until a time, and that time, before which no other holder may begin."""
    if entry is None or entry.value is None:
        return False, 0
    value = orjson.loads(entry.value)
    return bool(value["holder"]), int(value["until_ms"])


def _key(worker: int) -> str:
    return f"worker.{worker}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
