"""Optional calls: results are correct without them, so they are bounded and skipped after a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# The time limit of a call, and the pause after a failed one; both in seconds.
WITHIN_S: Final = 0.5
REST_S: Final = 2.0


class Courtesy:
    """Bounded attempts, which are skipped for a while after one has failed.

    One object for each kind of courtesy. The pause after a failure prevents a frozen store from costing `WITHIN_S`
    with every frame.
    """

    def __init__(self, what: str, *, within_s: float = WITHIN_S, rest_s: float = REST_S) -> None:
        """`what` names the courtesy in the log."""
        self._what = what
        self._within_s = within_s
        self._rest_s = rest_s
        self._not_before = 0.0
        self._failing = False

    async def attempt(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """Return what the call returns, or `otherwise` when it fails or times out."""
        if time.monotonic() < self._not_before:
            return otherwise
        try:
            async with asyncio.timeout(self._within_s):
                answer = await call()
        except Exception as error:  # noqa: BLE001  # whatever it is, what matters goes on
            self._not_before = time.monotonic() + self._rest_s
            if not self._failing:
                _log.warning("courtesy skipped", courtesy=self._what, error=type(error).__name__)
            self._failing = True
            return otherwise
        if self._failing:
            _log.info("courtesy works again", courtesy=self._what)
        self._failing = False
        return answer
