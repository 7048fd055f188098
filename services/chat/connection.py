"""One open stream of one person: the frames that wait for it, and when it was last heard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from octopus.chat.v1 import chat_service_pb2, frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.rpc.principal import Principal

Response = chat_service_pb2.ConverseResponse


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the server ends a stream, and when connecting again makes sense (seconds; None for never)."""

    reason: errors_pb2.Reason.ValueType
    description: str
    reconnect_after: float | None

    def goodbye(self) -> Response:
        """Return the last frame of the stream."""
        goodbye = frame_pb2.Goodbye(reason=self.reason, description=self.description)
        if self.reconnect_after is not None:
            goodbye.reconnect_after.CopyFrom(Duration(nanos=0))
            goodbye.reconnect_after.FromMilliseconds(int(self.reconnect_after * 1000))
        return Response(frame=frame_pb2.ServerFrame(goodbye=goodbye))


_SLOW_READER = Ending(
    errors_pb2.REASON_SLOW_READER, "the frames of this stream were not read in time; connect again and resume", 1.0
)
# How long a reader may take for half a buffer of what it has missed, in seconds.
_READ_WITHIN_S = 20.0


class CutOff(Exception):
    """The stream was ended at once, without waiting for its frames to be read."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.description)
        self.ending = ending


class Connection:
    """A stream with its bounded buffer.

    Whoever has something to say pushes it and goes on: a connection that does not read fills its own buffer and is cut
    off alone. `pump` writes the frames in order; it is the only writer.
    """

    __slots__ = (
        "_buffered",
        "_cut_off",
        "_empty",
        "_ending",
        "_max_bytes",
        "_max_frames",
        "_queue",
        "_task",
        "_wake",
        "ends_at",
        "heard_at",
        "own_messages",
        "pinged_at",
        "principal",
        "talks_back",
    )

    def __init__(
        self,
        principal: Principal,
        *,
        now: float,
        ends_at: float,
        max_frames: int,
        max_bytes: int,
        talks_back: bool,
    ) -> None:
        self.principal = principal
        # When the stream must end at the latest, on the monotonic clock.
        self.ends_at = ends_at
        # When the client was last heard and last asked, on the monotonic clock.
        self.heard_at = now
        self.pinged_at = now
        # False for `Subscribe`, whose client cannot answer on the stream.
        self.talks_back = talks_back
        # Ids of messages posted here, which need no echo.
        self.own_messages: set[int] = set()
        self._queue: deque[tuple[Response, int]] = deque()
        self._buffered = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._wake = asyncio.Event()
        # Set whenever nothing waits any more.
        self._empty = asyncio.Event()
        self._ending: Ending | None = None
        self._cut_off = False
        self._task: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Whether more frames are taken."""
        return self._ending is None

    def push(self, frame: Response, size: int | None = None) -> None:
        """Queue a frame; cut the connection off when too many wait."""
        if self._ending is not None:
            return
        octets = frame.ByteSize() if size is None else size
        self._queue.append((frame, octets))
        self._buffered += octets
        self._wake.set()
        if len(self._queue) > self._max_frames or self._buffered > self._max_bytes:
            self._cut(_SLOW_READER)

    async def settle(self) -> None:
        """Wait while the buffer is half full; for who has more to say at once than it holds.

        A connection that does not read meanwhile is cut off.
        """
        if len(self._queue) * 2 <= self._max_frames and self._buffered * 2 <= self._max_bytes:
            return
        self._empty.clear()
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                await self._empty.wait()
        except TimeoutError:
            self.cut(_SLOW_READER)

    def push_first(self, frame: Response) -> None:
        """Queue a frame before all others: the welcome."""
        self._queue.appendleft((frame, frame.ByteSize()))
        self._buffered += self._queue[0][1]
        self._wake.set()

    def end(self, ending: Ending) -> None:
        """Say goodbye after the frames that wait, then end the stream."""
        if self._ending is None:
            self.push(ending.goodbye(), 0)
            self._ending = ending
            self._wake.set()

    def close(self) -> None:
        """Take nothing more: the stream is over, whatever ended it."""
        if self._ending is None:
            self._ending = Ending(errors_pb2.REASON_UNSPECIFIED, "the stream is over", None)

    def cut(self, ending: Ending) -> None:
        """End the stream at once: the other side is not there, so nothing that waits would arrive."""
        if self._ending is None:
            self._cut(ending)

    def _cut(self, ending: Ending) -> None:
        self._ending = ending
        self._cut_off = True
        self._queue.clear()
        self._buffered = 0
        self._empty.set()
        if self._task is not None:
            self._task.cancel()

    async def pump(self, write: Callable[[Response], Awaitable[object]]) -> None:
        """Write frames until the stream ends.

        Raises:
            CutOff: the connection was cut off, possibly in the middle of a write.

        """
        self._task = asyncio.current_task()
        try:
            while True:
                while self._queue:
                    frame, octets = self._queue[0]
                    await write(frame)
                    if self._queue:
                        self._queue.popleft()
                        self._buffered -= octets
                if self._ending is not None:
                    if self._cut_off:
                        raise CutOff(self._ending)
                    return
                self._empty.set()
                self._wake.clear()
                await self._wake.wait()
        except asyncio.CancelledError:
            if not self._cut_off or self._ending is None or self._task is None:
                raise
            self._task.uncancel()
            raise CutOff(self._ending) from None
        finally:
            self._task = None
