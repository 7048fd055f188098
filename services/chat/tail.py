"""The newest entries of one session's log, read once for all who resume it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError
from octopus.chat.v1 import chat_events_pb2, chat_service_pb2, frame_pb2, message_pb2

from mesh.bus import StoredMessage, parse
from mesh.rpc.kinds import is_internal
from services.chat import metrics
from services.chat.connection import encoded
from services.chat.domain import Step, next_step

_log = structlog.get_logger(__name__)

# How often the place of the newest entries is guessed before the search is settled by halving alone.
_GUESSES: Final = 8
# What an entry takes in memory besides its bytes, about.
_OVERHEAD: Final = 512
# Messages of one session that may be under way when the bus dies.
_RECENT: Final = 32


class Log(Protocol):
    """Where a session's entries can be read again."""

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return entries after a position, in order."""

    async def last(self, subject: str) -> StoredMessage | None:
        """Return the last entry, None when there is none."""


class Entry:
    """A log entry, ready to be shown: built once for all who follow the session."""

    __slots__ = ("change", "encoded", "internal", "message_id", "previous_seq", "recalls", "seq")

    def __init__(self, data: bytes, seq: int, previous_seq: int) -> None:
        message = parse(chat_events_pb2.LogEntry, data).message
        message.seq = seq
        message.previous_seq = previous_seq
        self._set(message)

    def recalled_by(self, recall: Entry) -> Entry:
        """Return this entry as it is shown after it was recalled: without its words."""
        message, by = self.message, recall.message
        message.ClearField("content")
        message.content.fallback_text = by.content.fallback_text
        message.recalled_at.CopyFrom(by.sent_at)
        blanked = Entry.__new__(Entry)
        blanked._set(message)  # noqa: SLF001  # its own class
        return blanked

    @property
    def message(self) -> message_pb2.Message:
        """Return a copy of the message, decoded anew: entries are kept as they are written to streams."""
        (frame,) = chat_service_pb2.ConverseResponse.FromString(self.encoded).frames
        return frame.message

    def encoded_after(self, previous_seq: int) -> bytes:
        """Return the entry as it is shown to somebody who was shown `previous_seq` before it."""
        message = self.message
        message.previous_seq = previous_seq
        return encoded(frame_pb2.ServerFrame(message=message))

    def _set(self, message: message_pb2.Message) -> None:
        seq, previous_seq = message.seq, message.previous_seq
        self.seq = seq
        self.previous_seq = previous_seq
        self.message_id = message.id
        self.change = message.content.change.session if message.content.HasField("change") else None
        # Whether staff alone are shown it.
        self.internal = is_internal(message.content)
        # The position of the message that this entry recalls; 0 for none.
        self.recalls = message.content.recall.target_seq
        self.encoded = encoded(frame_pb2.ServerFrame(message=message))


def entries_of(stored: Sequence[StoredMessage], previous_seq: int) -> Iterator[Entry]:
    """Yield the entries of a page; `previous_seq` is the position of the entry before it.

    Entries that cannot be decoded are logged and skipped.
    """
    for each in stored:
        try:
            entry = Entry(each.data, each.seq, previous_seq)
        except DecodeError:
            metrics.UNREADABLE.inc()
            _log.exception("log entry not readable, left out", seq=each.seq)
            continue
        previous_seq = each.seq
        yield entry


class TailMemory:
    """Bounds what the tails of all sessions hold together: the tail used least recently forgets first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_at: OrderedDict[Tail, float] = OrderedDict()
        # Kept up by the tails.
        self.bytes = 0

    def used(self, tail: Tail, now: float) -> None:
        """Keep a tail's entries: somebody resumes with it. `now` is on any monotonic clock."""
        tail.kept = True
        self._used_at[tail] = now
        self._used_at.move_to_end(tail)
        while self.bytes > self._max_bytes and len(self._used_at) > 1:
            oldest, _ = self._used_at.popitem(last=False)
            oldest.forget()

    def expire(self, before: float) -> None:
        """Clear the tails that were not used since."""
        while self._used_at:
            tail, used_at = next(iter(self._used_at.items()))
            if used_at >= before:
                return
            self.drop(tail)

    def drop(self, tail: Tail) -> None:
        """Let a tail forget."""
        self._used_at.pop(tail, None)
        tail.forget()


class Tail:
    """The end of one session's log.

    `last` is the position of the newest known entry. Every entry after the position `after` is held here; without any,
    `after` equals `last`. `full` is True when these are the `limit` newest entries, or all of them.
    """

    __slots__ = (
        "_entries",
        "_log",
        "_memory",
        "_page",
        "_recent",
        "_subject",
        "after",
        "full",
        "kept",
        "last",
        "limit",
    )

    def __init__(self, log: Log, subject: str, memory: TailMemory, *, limit: int, page: int) -> None:
        self._log = log
        self._subject = subject
        self._memory = memory
        self._page = page
        self._entries: list[Entry] = []
        # Position and message id of the newest entries.
        self._recent: list[tuple[int, int]] = []
        self.limit = limit
        self.after = 0
        self.last = 0
        self.full = False
        # Whether entries are kept, which `TailMemory.used` begins and `forget` ends.
        self.kept = False

    @property
    def first_seq(self) -> int:
        """Return the position of the first entry held; 0 without any."""
        return self._entries[0].seq if self._entries else 0

    def append(self, entry: Entry) -> bool:
        """Take the next live entry; False when one before it is missing. One that is known already is passed over."""
        step = next_step(self.last, entry.previous_seq, entry.seq)
        if step is Step.SHOW:
            self._add(entry)
        return step is not Step.REPAIR

    def since(self, seq: int, count: int) -> list[Entry]:
        """Return up to `count` of the entries held after a position, in order."""
        start = len(self._entries)
        while start and self._entries[start - 1].seq > seq:
            start -= 1
        return self._entries[start : start + count]

    def forget(self) -> None:
        """Give up the entries, and keep none from now on; the position stays."""
        self._clear(self.last)
        self.full = False
        self.kept = False

    async def lost(self, log_first: int) -> tuple[int, list[int]] | None:
        """Compare the newest entries known with the log. Raises `BusError`.

        Returns the position up to which the log has them, and the ids of those that it has not; None when it has none
        of them. `log_first` is the first position the log still has: what has left it by age is not lost.
        """
        known = [each for each in self._recent[-_RECENT:] if each[0] >= log_first]
        if not known:
            return self.last, []
        page = await self._read(after_seq=known[0][0] - 1, limit=2 * _RECENT)
        stored = {(entry.seq, entry.message_id) for entry in entries_of(page, 0)}
        lost = [each for each in known if each not in stored]
        if not lost:
            return self.last, []
        if len(lost) >= _RECENT:
            return None
        return lost[0][0] - 1, [message_id for _, message_id in lost]

    def rewind(self, seq: int) -> None:
        """Forget what comes after a position."""
        self._clear(seq)
        self.full = False

    async def read_from(self, seq: int) -> bool:
        """Read again from a position, or the newest entries when that is too much. Return True at the end of the log.

        Raises `BusError`.
        """
        page = await self._read(after_seq=seq, limit=self.limit + 1)
        if page and page[-1].following > self.limit:
            seq = await self._newest(page[-1].seq, page[-1].following)
            page = await self._read(after_seq=seq, limit=2 * self.limit)
        # Entries received live in the meantime are in the log too, and are read again.
        self._clear(seq)
        self.full = seq == 0
        return self._extend(page)

    async def read_on(self) -> bool:
        """Read one page after the last entry. Return True at the end of the log. Raise `BusError`."""
        return self._extend(await self._read(after_seq=self.last, limit=self._page))

    async def _newest(self, low: int, low_follow: int) -> int:
        """Return a position after which more than `limit` entries follow, at most twice as many.

        The log tells how many follow an entry, so the position is searched for with single reads. More than `limit`
        follow after `low`, namely `low_follow`.
        """
        newest = await self._log.last(self._subject)
        metrics.LOG_READS.inc()
        # After `high` follow `limit` entries or fewer.
        high, high_follow = (newest.seq if newest else low), 0
        attempt = 0
        while low_follow > 2 * self.limit and high - low > 1:
            middle = (low + high) // 2
            if attempt < _GUESSES:
                share = (1.5 * self.limit - high_follow) / (low_follow - high_follow)
                middle = min(max(high - int((high - low) * share), low + 1), high - 1)
            attempt += 1
            found = await self._read(after_seq=middle, limit=1)
            follow = found[0].following + 1 if found else 0
            if follow > self.limit:
                low, low_follow = middle, follow
            else:
                high, high_follow = middle, follow
        return low

    async def _read(self, *, after_seq: int, limit: int) -> list[StoredMessage]:
        metrics.LOG_READS.inc()
        return await self._log.read(self._subject, after_seq=after_seq, limit=limit)

    def _extend(self, page: Sequence[StoredMessage]) -> bool:
        for entry in entries_of(page, self.last):
            if entry.seq > self.last:
                self._add(entry)
        if page:
            self.last = max(self.last, page[-1].seq)
        if not self._entries:
            self.after = self.last
        return not page or not page[-1].following

    def _add(self, entry: Entry) -> None:
        self.last = entry.seq
        self._recent.append((entry.seq, entry.message_id))
        if len(self._recent) > 2 * _RECENT:
            del self._recent[:_RECENT]
        if not self.kept:
            self.after = entry.seq
            return
        if entry.recalls:
            self._blank(entry)
        self._entries.append(entry)
        self._memory.bytes += len(entry.encoded) + _OVERHEAD
        if len(self._entries) > self.limit:
            self.full = True
            dropped = self._entries.pop(0)
            self._memory.bytes -= len(dropped.encoded) + _OVERHEAD
            self.after = dropped.seq

    def _blank(self, recall: Entry) -> None:
        """Replace the message that an entry recalls: who resumes later is not sent its words."""
        for place, entry in enumerate(self._entries):
            if entry.seq == recall.recalls:
                blanked = entry.recalled_by(recall)
                self._memory.bytes += len(blanked.encoded) - len(entry.encoded)
                self._entries[place] = blanked

    def _clear(self, seq: int) -> None:
        self._memory.bytes -= sum(len(entry.encoded) + _OVERHEAD for entry in self._entries)
        self._entries.clear()
        self._recent = [each for each in self._recent if each[0] <= seq]
        self.after = self.last = seq
