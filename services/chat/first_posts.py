"""Finds the message with which a client message id was first used, so that no resend is stored a second time.

The log itself refuses an id it has stored within its duplicate window: that is exact, costs nothing, and holds for all
instances. What is older is looked for here, before a message is stored:

- in an index of the ids in the session's log, which an instance reads once and then from where it ended. An index that
  was read within the window misses nothing: what was stored before it was read is in it, what was stored since is in
  the window. How far the archive is behind plays no part;
- in the archive, when the session is older than the log, for what has left the log.

A session that is younger than the window needs neither.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError
from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.bus import StoredMessage, parse
from mesh.bus.ids import time_of
from services.chat import metrics
from services.chat.log_extent import KNOWN_FOR_S, LogExtent

_log = structlog.get_logger(__name__)

# Client ids of all sessions that are kept, about 100 bytes each; the session used least recently goes first.
_MOST_IDS: Final = 200_000
# The part of the duplicate window on which nothing is built: clocks differ, and a call takes its time.
_MARGIN: Final = 0.1
# Entries in one read.
_PAGE: Final = 256
# How much earlier than the log's first entry a session may have begun and be taken for younger, in seconds.
_CLOCKS_DIFFER_S: Final = 60.0 + KNOWN_FOR_S


class Log(Protocol):
    """Where a session's entries can be read again."""

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return entries after a position, in order."""


class History(Protocol):
    """What the archive has."""

    async def find(
        self, tenant_id: str, session_id: int, sender_kind: message_pb2.SenderKind.ValueType, client_message_id: str
    ) -> message_pb2.Message | None:
        """Return the message with a client message id of an author's side, None without one. Raise `Refused`."""


class _Index:
    """The client ids in one session's log, up to a position."""

    __slots__ = ("read_at", "reading", "seq_of", "upto")

    def __init__(self) -> None:
        # Positions by hash of side and id: what is found is looked at.
        self.seq_of: dict[int, int] = {}
        self.upto = 0
        # When the log was read to its end, on the monotonic clock.
        self.read_at: float | None = None
        self.reading = asyncio.Lock()


class FirstPosts:
    """Looks for the first message of a (session, author's side, client message id).

    `window` is the log's duplicate window in seconds.
    """

    def __init__(
        self,
        log: Log,
        extent: LogExtent,
        history: History,
        *,
        window: float,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._extent = extent
        self._history = history
        self._covered = window * (1 - _MARGIN)
        self._now = now
        self._monotonic = monotonic
        # The value of a key that is used comes last.
        self._indexes: OrderedDict[tuple[str, int], _Index] = OrderedDict()
        self._ids = 0

    def may_have_left_the_window(self, opened_at: float) -> bool:
        """Return whether a session is too old for the log to have all of its ids. Seconds since the epoch."""
        return self._now() - opened_at > self._covered

    async def find(
        self,
        tenant_id: str,
        session_id: int,
        sender_kind: message_pb2.SenderKind.ValueType,
        client_message_id: str,
        *,
        opened_at: float | None = None,
        to_the_end: bool = False,
    ) -> message_pb2.Message | None:
        """Return the first message with its position, None when there is none.

        Without `to_the_end` it may be missed when it lies within the log's duplicate window, which will refuse it.
        `opened_at` is when the session began, in seconds since the epoch; by default its id tells.

        Raises:
            BusError: the log cannot be read now.
            Refused: the archive cannot be asked now.

        """
        subject = f"log.{tenant_id}.{session_id}"
        max_age = 0.0 if to_the_end else self._covered
        seq = await self._position((tenant_id, session_id), hash((sender_kind, client_message_id)), max_age)
        if seq is not None:
            found = await self._at(subject, seq)
            if found is not None and (found.sender.kind, found.client_message_id) == (sender_kind, client_message_id):
                return found
        extent = await self._extent.get()
        began = time_of(session_id) if opened_at is None else opened_at
        if began > extent.time.timestamp() + _CLOCKS_DIFFER_S:
            # All of it is in the log.
            return None
        return await self._history.find(tenant_id, session_id, sender_kind, client_message_id)

    async def _at(self, subject: str, seq: int) -> message_pb2.Message | None:
        for stored in await self._log.read(subject, after_seq=seq - 1, limit=1):
            if stored.seq == seq:
                message = parse(chat_events_pb2.LogEntry, stored.data).message
                message.seq = seq
                return message
        return None

    async def _position(self, session: tuple[str, int], post: int, max_age: float) -> int | None:
        """Return where the session's log has a post; the index is no older than `max_age` seconds."""
        index = self._indexes.get(session)
        if index is None:
            index = self._indexes[session] = _Index()
        self._indexes.move_to_end(session)
        async with index.reading:
            asked_at = self._monotonic()
            if index.read_at is None or asked_at - index.read_at >= max_age:
                if (await self._extent.get(index.upto)).last_seq < index.upto:
                    # The log was lost and its sequence started again.
                    self._forget(session, index)
                    return await self._position(session, post, max_age)
                await self._read_on(session, index)
                index.read_at = asked_at
        if not index.seq_of:
            self._forget(session, index)
        return index.seq_of.get(post)

    async def _read_on(self, session: tuple[str, int], index: _Index) -> None:
        subject = f"log.{session[0]}.{session[1]}"
        ended = False
        while not ended:
            metrics.ID_READS.inc()
            page = await self._log.read(subject, after_seq=index.upto, limit=_PAGE)
            before = len(index.seq_of)
            for stored in page:
                index.upto = stored.seq
                try:
                    message = parse(chat_events_pb2.LogEntry, stored.data).message
                except DecodeError:
                    continue
                if message.client_message_id:
                    # The first one counts.
                    index.seq_of.setdefault(hash((message.sender.kind, message.client_message_id)), stored.seq)
            if self._indexes.get(session) is index:
                self._ids += len(index.seq_of) - before
                self._evict()
            ended = not page or not page[-1].following

    def _forget(self, session: tuple[str, int], index: _Index) -> None:
        if self._indexes.get(session) is index:
            del self._indexes[session]
            self._ids -= len(index.seq_of)

    def _evict(self) -> None:
        while self._ids > _MOST_IDS and len(self._indexes) > 1:
            _, index = self._indexes.popitem(last=False)
            self._ids -= len(index.seq_of)
