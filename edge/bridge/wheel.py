"""One timer for many deadlines: a timer of the event loop for each connection would cost memory and wake-ups."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

# Seconds between two turns; deadlines are kept to within one.
TICK_S: Final = 0.25


class Wheel:
    """Calls back after a time, within a tick. Nothing is cancelled: who is called looks whether it still matters."""

    def __init__(self) -> None:
        self._due: defaultdict[int, list[Callable[[], None]]] = defaultdict(list)
        self._now = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call in so many seconds, once."""
        self._due[self._now + max(1, round(seconds / TICK_S))].append(call)

    async def turn(self) -> None:
        """Turn until cancelled. Missed turns are skipped: time in which this process was stopped does not count."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """Make one turn."""
        self._now += 1
        for call in self._due.pop(self._now, ()):
            try:
                call()
            except Exception:  # noqa: BLE001  # the others are due as well
                _log.exception("timer failed")
