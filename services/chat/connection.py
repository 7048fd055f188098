"""One open stream of one person: its queued frames, and the time of its last frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.rpc.principal import Principal
from mesh.varint import varint

# Bytes of frames that one write carries at most; a single larger frame goes alone.
WRITE_BYTES = 64 * 1024

# The tag of `frames` in both responses: field 2, with a length.
_FRAMES = b"\x12"


def encoded(frame: frame_pb2.ServerFrame) -> bytes:
    """Return a frame as it stands in a `ConverseResponse` and a `SubscribeResponse`.

    Such bytes can be joined: one after the other they are the response that has all their frames. A frame that many
    connections get is encoded once.
    """
    data = frame.SerializeToString()
    # Half the time of putting the frame into a `ConverseResponse`, which copies it.
    return b"".join((_FRAMES, varint(len(data)), data))


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the server ends a stream, and when connecting again makes sense (seconds; None for never)."""

    reason: errors_pb2.Reason.ValueType
    description: str
    reconnect_after: float | None

    def goodbye(self) -> frame_pb2.ServerFrame:
        """Return the last frame of the stream."""
        goodbye = frame_pb2.Goodbye(reason=self.reason, description=self.description)
        if self.reconnect_after is not None:
            goodbye.reconnect_after.CopyFrom(Duration(nanos=0))
            goodbye.reconnect_after.FromMilliseconds(int(self.reconnect_after * 1000))
        return frame_pb2.ServerFrame(goodbye=goodbye)


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
    off alone. Frames leave in order, as many at once as one write carries; `pump` writes them, or whoever set
    `on_change` takes them.
    """

    __slots__ = (
        "_buffered",
        "_cut_off",
        "_drained",
        "_ended_at",
        "_ending",
        "_max_bytes",
        "_max_frames",
        "_queue",
        "device_id",
        "ends_at",
        "heard_at",
        "on_change",
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
        # What the client calls its device; empty when it does not say.
        self.device_id = ""
        # When the stream must end at the latest, on the monotonic clock.
        self.ends_at = ends_at
        # When the last frame arrived and the last ping was sent, on the monotonic clock.
        self.heard_at = now
        self.pinged_at = now
        # False for `Subscribe`, whose client cannot answer on the stream.
        self.talks_back = talks_back
        # Called when there are frames to take, or the stream has ended.
        self.on_change: Callable[[Connection], None] | None = None
        # A list: an empty deque takes 600 bytes more, and most connections are silent.
        self._queue: list[bytes] = []
        self._buffered = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        # Resolved when no frame is queued; exists only while it is awaited.
        self._drained: asyncio.Future[None] | None = None
        self._ending: Ending | None = None
        self._ended_at = 0.0
        self._cut_off = False

    @property
    def open(self) -> bool:
        """Return whether more frames are taken."""
        return self._ending is None

    @property
    def waiting(self) -> bool:
        """Return whether there are frames to take."""
        return bool(self._queue)

    @property
    def ending(self) -> Ending | None:
        """Why the stream ends, as soon as it does; frames pushed before may still wait."""
        return self._ending

    @property
    def cut_off(self) -> bool:
        """Return whether the stream ends at once, with an error instead of a goodbye."""
        return self._cut_off

    def push(self, frame: frame_pb2.ServerFrame) -> None:
        """Queue a frame; cut the connection off when too many wait."""
        self.push_encoded(encoded(frame))

    def push_encoded(self, data: bytes) -> None:
        """Queue a frame that was `encoded` before."""
        if self._ending is not None:
            return
        self._queue.append(data)
        self._buffered += len(data)
        if len(self._queue) > self._max_frames or self._buffered > self._max_bytes:
            self._cut(_SLOW_READER)
        else:
            self._changed()

    def push_first(self, frame: frame_pb2.ServerFrame) -> None:
        """Queue a frame before all others: the welcome."""
        data = encoded(frame)
        self._queue.insert(0, data)
        self._buffered += len(data)
        self._changed()

    def take(self, most: int = WRITE_BYTES) -> bytes:
        """Return what waits, joined, within so many bytes or one frame; nothing when nothing waits."""
        queue = self._queue
        if not queue:
            return b""
        if self._buffered <= most:
            data = b"".join(queue) if len(queue) > 1 else queue[0]
            queue.clear()
            self._buffered = 0
        else:
            count = size = 0
            for each in queue:
                if count and size + len(each) > most:
                    break
                count += 1
                size += len(each)
            data = b"".join(queue[:count])
            del queue[:count]
            self._buffered -= size
        if not queue:
            self._tell_drained()
        return data

    @property
    def half_full(self) -> bool:
        """Return whether the buffer is half full: who has more to say waits, see `settle`."""
        return len(self._queue) * 2 > self._max_frames or self._buffered * 2 > self._max_bytes

    async def settle(self) -> None:
        """Wait while the buffer is half full; for who has more to say at once than it holds.

        A connection that does not read meanwhile is cut off.
        """
        if not self.half_full:
            return
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                await asyncio.shield(self._drained)
        except TimeoutError:
            self.cut(_SLOW_READER)

    def end(self, ending: Ending) -> None:
        """Say goodbye after the frames that wait, then end the stream."""
        if self._ending is None:
            self._queue.append(encoded(ending.goodbye()))
            self._ending = ending
            self._ended_at = time.monotonic()
            self._changed()

    def abandon(self, *, now: float, after: float) -> None:
        """Give up what waits, the goodbye included, of a stream that was ended so long ago and is not read."""
        if now - self._ended_at < after:
            return
        if self._queue and not self._cut_off and (ending := self._ending) is not None:
            self._cut(ending)

    def close(self) -> None:
        """Take nothing more: the stream is over, whatever ended it."""
        if self._ending is None:
            self._ending = Ending(errors_pb2.REASON_UNSPECIFIED, "the stream is over", None)
        self._tell_drained()

    def cut(self, ending: Ending) -> None:
        """End the stream at once: the other side is not there, so nothing that waits would arrive."""
        if self._ending is None:
            self._cut(ending)

    def _cut(self, ending: Ending) -> None:
        self._ending = ending
        self._cut_off = True
        self._queue.clear()
        self._buffered = 0
        self._tell_drained()
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self)

    def _tell_drained(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    async def pump(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Write frames until the stream ends.

        Raises:
            CutOff: the connection was cut off, possibly in the middle of a write.

        """
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        sleeping: asyncio.Future[None] | None = None

        def wake(_: Connection) -> None:
            if self._cut_off and task is not None:
                task.cancel()
            elif sleeping is not None and not sleeping.done():
                sleeping.set_result(None)

        self.on_change = wake
        try:
            while True:
                while data := self.take():
                    await write(data)
                if self._ending is not None:
                    if self._cut_off:
                        raise CutOff(self._ending)
                    return
                sleeping = loop.create_future()
                await sleeping
        except asyncio.CancelledError:
            if not self._cut_off or self._ending is None or task is None:
                raise
            task.uncancel()
            raise CutOff(self._ending) from None
        finally:
            self.on_change = None
