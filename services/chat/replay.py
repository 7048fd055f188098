"""Turns of those who catch up, so that those who talk are not held up by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Entries written in one turn.
SLICE = 32
# Turns taken at once: each is one read of the log or one slice of entries.
_AT_ONCE = 4
# A loop that answers later than this, in seconds, is busy with those who talk.
_BUSY_S = 0.004
# The longest pause that a busy loop imposes on one turn, in seconds.
_LONGEST_PAUSE_S = 0.25


class ReplayScheduler:
    """Grants turns in the order they were asked for, a few at once, and fewer while the process is busy.

    Posts, acknowledgements and live entries take no turns: they go ahead of every replay.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._slots = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the block."""
        async with self._slots:
            await _let_others_go_first()
            yield


async def _let_others_go_first() -> None:
    """Run what is ready in the loop; when that takes long, pause for as long again."""
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    await asyncio.sleep(0)
    busy = loop.time() - asked_at
    if busy > _BUSY_S:
        await asyncio.sleep(min(busy, _LONGEST_PAUSE_S))
