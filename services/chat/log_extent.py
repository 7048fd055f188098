"""From where to where the log goes."""

from __future__ import annotations

import math
import time
from typing import Final, Protocol

from mesh.bus import StreamExtent
from mesh.bus.streams import LOG

# Seconds for which the start of the log is remembered; it moves slowly.
KNOWN_FOR_S: Final = 10.0


class Stream(Protocol):
    """The state of a stream."""

    async def extent_of(self, stream: str) -> StreamExtent:
        """Return from where to where a stream goes."""


class LogExtent:
    """The extent of the log, asked for at most every `KNOWN_FOR_S` seconds."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._known: StreamExtent | None = None
        self._asked_at = -math.inf

    async def get(self, seq: int = 0) -> StreamExtent:
        """Return the extent; up to date when a later position is claimed than was known. Raises `BusError`."""
        now = time.monotonic()
        if self._known is None or seq > self._known.last_seq or now - self._asked_at > KNOWN_FOR_S:
            self._known = await self._stream.extent_of(LOG)
            self._asked_at = now
        return self._known

    def forget(self) -> None:
        """Read again at the next call: the log may have been lost."""
        self._known = None
