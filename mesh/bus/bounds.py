"""Bounds of the streams: how many bytes they may hold, and what is done before they are full.

- From 75 % on, the oldest messages of a stream are deleted, down to 50 %, but only those that every consumer has
  acknowledged: the archive has them.
- From 80 % on, a warning names the consumer that is behind. The metric is `octopus_bus_stream_fill_ratio`.
- A full stream refuses new messages: their senders get STORAGE_FULL, and no stored message is deleted.
- When the disk itself is nearly full, for whatever reason, the streams refuse new messages until it has room again.

Each state ends within seconds after its cause has ended; no operator is needed.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Final

import structlog
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from mesh.bus import measure
from mesh.bus.streams import Stream

_log = structlog.get_logger(__name__)

DEFAULT_BYTES: Final = 8 * 2**30
_RELIEVE_ABOVE: Final = 0.75
_RELIEVE_TO: Final = 0.5
_WARN_ABOVE: Final = 0.8
_WARN_AGAIN_BELOW: Final = 0.7


class Bounds:
    """The bounds of one server's streams."""

    def __init__(self, total: int = DEFAULT_BYTES, *, folder: Path | None = None, reserve: int = 512 * 2**20) -> None:
        """`total` bytes for all streams. `folder` is on the server's disk, of which `reserve` bytes stay free.

        Without `folder` the disk is not checked: the server runs on another machine.
        """
        self._total = total
        self._folder = folder
        self._reserve = reserve
        self._disk_full = False
        self._warned: set[str] = set()

    async def of(self, jetstream: JetStreamContext, stream: Stream) -> int:
        """Return the bound of a stream. Raise nats-py's errors."""
        usual = int(self._total * stream.share)
        if stream.discards or not await self._is_disk_full():
            return usual
        try:
            held = (await jetstream.stream_info(stream.name)).state.bytes
        except NotFoundError:
            return usual
        return min(usual, max(held, 1))

    async def make_room(self, jetstream: JetStreamContext, name: str, consumers: list[str]) -> None:
        """Delete what every consumer has acknowledged from a stream that fills up, and warn. Raise nats-py's errors."""
        info = await jetstream.stream_info(name)
        ratio = info.state.bytes / max(info.config.max_bytes or 0, 1)
        measure.stream_fill.labels(name).set(ratio)
        floors = {each: await _acknowledged(jetstream, info, each) for each in consumers}
        if ratio > _RELIEVE_ABOVE and floors:
            state = info.state
            # Messages are of about one size; the next round corrects it.
            wanted = state.first_seq + int(state.messages * (1 - _RELIEVE_TO / ratio))
            keep_from = min(wanted, min(floors.values()) + 1)
            if keep_from > state.first_seq:
                await jetstream.purge_stream(name, seq=keep_from)
                _log.info("stream relieved", stream=name, first_seq=keep_from)
                info = await jetstream.stream_info(name)
                ratio = info.state.bytes / max(info.config.max_bytes or 0, 1)
        self._tell(name, ratio, info, floors)

    def _tell(self, name: str, ratio: float, info: api.StreamInfo, floors: dict[str, int]) -> None:
        if ratio > _WARN_ABOVE and name not in self._warned:
            self._warned.add(name)
            behind = {each: info.state.last_seq - floor for each, floor in floors.items()}
            _log.warning("stream nearly full", stream=name, fill=round(ratio, 2), messages_behind=behind)
        elif ratio < _WARN_AGAIN_BELOW and name in self._warned:
            self._warned.discard(name)
            _log.info("stream has room again", stream=name, fill=round(ratio, 2))

    async def _is_disk_full(self) -> bool:
        if self._folder is None:
            return False
        free = (await asyncio.to_thread(shutil.disk_usage, self._folder)).free
        full = free < self._reserve * (2 if self._disk_full else 1)
        if full and not self._disk_full:
            _log.warning("disk nearly full, streams refuse messages", free_bytes=free, reserve_bytes=self._reserve)
        elif self._disk_full and not full:
            _log.info("disk has room again", free_bytes=free)
        self._disk_full = full
        measure.disk_full.set(full)
        return full


async def _acknowledged(jetstream: JetStreamContext, stream: api.StreamInfo, consumer: str) -> int:
    """Return the sequence up to which a consumer has acknowledged everything that is for it."""
    info = await jetstream.consumer_info(str(stream.config.name), consumer)
    if not info.num_ack_pending and not info.num_pending:
        return stream.state.last_seq
    return int(info.ack_floor.stream_seq or 0) if info.ack_floor else 0
