"""Paces those who connect, so that thousands who come back at once do not slow down those who talk."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused

# Seconds that somebody waits for a turn. Clients give up 5 s after they have begun to connect, and the turn itself and
# the way here take time too.
WAIT_S: Final = 3.0
# Turns under way at once. More than one only when what they ask answers slowly.
_AT_ONCE: Final = 16
# A turn begins when the one before it has ended and as much time again has passed, or so many seconds after it began.
_GAP_S: Final = 0.025
# The longest time in which one who is refused is told to come back, in seconds: enough for 10,000 at 60 a second.
_COME_BACK_S: Final = 180.0
# The share of the newest gap in the mean of the gaps, and the least that the mean is taken for, in seconds.
_NEWEST: Final = 0.1
_LEAST_GAP_S: Final = 0.005


class TooManyConnecting(Refused):
    """A turn would come too late; `retry_after` is a time of its own for each who is refused."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            errors_pb2.REASON_UNAVAILABLE,
            "very many are connecting at once; connect again after the time given",
            retry_after=retry_after,
        )


class AttachQueue:
    """Grants turns in the order they were asked for: normally one at a time, with a rest after each.

    The rest is as long as the turn was. A turn asks the session service, the bus and the log, so it takes longer when
    any of them or the machine is busy, and the rests leave room for those who talk, who take no turns. Who asks while
    nobody waits and nothing rests begins at once.

    A turn that is not over after `gap` seconds holds up nobody further: one slow answer, of a frozen instance of the
    session service for example, is no reason for the others to wait.
    """

    def __init__(self, *, at_once: int = _AT_ONCE, gap: float = _GAP_S, wait: float = WAIT_S) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._start = asyncio.Lock()
        self._gap = gap
        self._wait = wait
        # How many wait, and the mean time between two turns as those who wait see it.
        self._waiting = 0
        self._mean_gap = _LEAST_GAP_S
        # The newest turn: when it began, when the next one may begin (infinite while it is under way), its end.
        self._began_at = self._free_at = -math.inf
        self._ended: asyncio.Future[None] | None = None
        # The time until which those who were refused have been told to come back.
        self._promised_until = -math.inf

    @property
    def waiting(self) -> int:
        """Return how many wait for a turn."""
        return self._waiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the block.

        Raises:
            TooManyConnecting: the turn would come too late.

        """
        if self._waiting * self._mean_gap >= self._wait:
            raise self._refused()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._slots.acquire()
                try:
                    ended = await self._begin()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            raise self._refused() from None
        finally:
            self._waiting -= 1
        began_at = self._began_at
        try:
            yield
        finally:
            self._slots.release()
            ended.set_result(None)
            if self._ended is ended:
                now = asyncio.get_running_loop().time()
                self._free_at = now + (now - began_at)

    async def _begin(self) -> asyncio.Future[None]:
        """Wait until the next turn may begin, and return the future that tells its end."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._start:
            due = self._began_at + self._gap
            if self._ended is not None and not self._ended.done():
                await asyncio.wait((self._ended,), timeout=max(0.0, due - loop.time()))
            pause = min(self._free_at, due) - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            now = loop.time()
            gap = now - max(asked_at, self._began_at)
            self._mean_gap = max(_LEAST_GAP_S, self._mean_gap + _NEWEST * (gap - self._mean_gap))
            self._began_at, self._free_at = now, math.inf
            self._ended = loop.create_future()
            return self._ended

    def _refused(self) -> TooManyConnecting:
        """Return the refusal of one who would wait too long; they come back one after the other."""
        now = asyncio.get_running_loop().time()
        promised = max(self._promised_until, now + self._wait) + self._mean_gap
        if promised > now + _COME_BACK_S:
            # They begin anew with the earliest time: some of those who were told one do not come.
            promised = now + self._wait
        self._promised_until = promised
        return TooManyConnecting(promised - now)
