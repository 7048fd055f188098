"""One stream in one session: what it was shown, and how it catches up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.bus import BusError
from mesh.retrying import retrying
from mesh.rpc.kinds import STAFF
from mesh.telemetry.outage import Outage
from services.chat.connection import Connection, Ending
from services.chat.domain import resume
from services.chat.replay import SLICE
from services.chat.tail import Entry, entries_of

if TYPE_CHECKING:
    from services.chat.room import Room

_log = structlog.get_logger(__name__)

# Posts of one stream in one session whose echo may be under way; more than that and the oldest is echoed.
_MOST_OWN_POSTS: Final = 256

# An internal failure; a new stream reads everything again.
BROKEN = Ending(errors_pb2.REASON_INTERNAL, "the stream could not be kept complete; connect again and resume", 1.0)


class OwnPosts:
    """Ids of the messages posted on one stream in one session: their acknowledgement replaces the echo."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, message_id: int) -> None:
        """Note a message before it is stored. The oldest one is forgotten when there are too many."""
        if len(self._ids) >= _MOST_OWN_POSTS:
            del self._ids[next(iter(self._ids))]
        self._ids[message_id] = None

    def discard(self, message_id: int) -> bool:
        """Forget a message; True when it was noted."""
        if message_id not in self._ids:
            return False
        del self._ids[message_id]
        return True


class Follower:
    """The position of one stream in one session, which lasts as long as the stream.

    A person may leave a session and come back to it on the same stream: an offer lapses and is made again, a session is
    transferred and returned. The position stays, so each entry is shown once and none is passed over.

    Live entries are pushed by the room while this follower is `live`. Otherwise it catches up in turns: from the room's
    tail, or from the log itself once the tail has moved on.
    """

    __slots__ = ("_begun", "_hidden", "_replay", "connection", "live", "own_posts", "room", "seen", "version")

    def __init__(self, connection: Connection, seen: int) -> None:
        self.connection = connection
        self.seen = seen
        # The newest version of the session that was sent to this person.
        self.version = 0
        self.own_posts = OwnPosts()
        self.room: Room | None = None
        self.live = False
        # The last entry that this person is not shown, and the one before it that they are: so that no gap shows.
        self._hidden = (0, 0)
        self._begun = False
        self._replay: asyncio.Task[None] | None = None

    def join(self, room: Room) -> None:
        """Follow the room from the present position on. Harmless when it is followed already."""
        if self.room is room:
            return
        self.leave()
        self.room = room
        self._begun = False
        room.add(self)
        self.catch_up()

    def leave(self) -> None:
        """Follow no longer; the position is kept."""
        room, self.room = self.room, None
        self.live = False
        if self._replay is not None:
            self._replay.cancel()
            self._replay = None
        if room is not None:
            room.remove(self)

    def show(self, entry: Entry) -> None:
        """Push an entry, unless it was shown or is an echo."""
        if entry.seq <= self.seen:
            return
        self.seen = entry.seq
        hidden, before = self._hidden
        previous = before if hidden and entry.previous_seq == hidden else entry.previous_seq
        if entry.internal and not self._is_inside():
            self._hidden = (entry.seq, previous)
        elif not self.own_posts.discard(entry.message_id):
            self.connection.push_encoded(
                entry.encoded if previous == entry.previous_seq else entry.encoded_after(previous)
            )

    def _is_inside(self) -> bool:
        """Return whether this person is one of the shop's, and not its customer here."""
        principal = self.connection.principal
        customer = self.room is not None and self.room.session.customer_id == principal.user_id
        return principal.has(*STAFF) and not customer

    def rewind(self, seq: int, lost: Sequence[int]) -> None:
        """Go back to a position; the messages lost after it were shown here, so their second coming is left out."""
        if self.seen > seq:
            self.seen = seq
            for message_id in lost:
                self.own_posts.add(message_id)

    def catch_up(self) -> None:
        """Show what is missing. Does nothing while that is under way."""
        room = self.room
        if self._replay is not None or room is None:
            return
        if self._begun and room.current and self.seen >= room.tail.last:
            self.live = True
            return
        self.live = False
        self._replay = room.reading.background.spawn(
            self._catch_up(room), name=f"replay {room.session_id}", on_failure=self.give_up
        )

    def give_up(self) -> None:
        """End the stream: it cannot be kept complete, and a new one can."""
        self.connection.end(BROKEN)

    async def _catch_up(self, room: Room) -> None:
        outage = Outage(_log, "replay failed, retrying", "replay continued", session_id=room.session_id)
        retry = retrying(outage, BusError, ends=lambda: not self.connection.open)
        while self.connection.open and not await retry(self._advance, room):
            # The log is read faster than a slow client reads; no other stream waits for it.
            await self.connection.settle()
        self._replay = None
        room.caught_up(self)

    async def _advance(self, room: Room) -> bool:
        """Take the next step of a replay; return whether everything was shown. Raise BusError."""
        if not self._begun:
            await self._begin(room)
        elif not room.current:
            await room.until_current()
        elif self.seen >= room.tail.last:
            # Nothing runs between this and the next live entry.
            self.live = True
        else:
            async with room.reading.replays.turn():
                await self._slice(room)
        return self.live

    async def _begin(self, room: Room) -> None:
        """Find out what this stream gets of the session: all it has missed, or a marker and the newest entries."""
        extent = await room.reading.extent(self.seen)
        if not await room.until_held(0 if self.seen > extent.last_seq else self.seen):
            return
        start = resume(
            self.seen,
            held_after=room.tail.after,
            held_first=room.tail.first_seq,
            log_first=extent.first_seq,
            log_last=extent.last_seq,
            opened_before_log=room.session.opened_at.seconds < extent.time.timestamp(),
        )
        if start.first_seq is not None:
            self.connection.push(_too_old(room.session_id, start.first_seq))
        self.seen = start.seen
        self._begun = True

    async def _slice(self, room: Room) -> None:
        tail = room.tail
        if self.seen >= tail.after:
            self._show_some(tail.since(self.seen, SLICE))
            return
        # Too slow for the tail, which has moved on.
        page = await room.reading.log.read(room.log_subject, after_seq=self.seen, limit=SLICE)
        if not page:
            # It was deleted from the log in the meantime.
            self._begun = False
        elif self._show_some(entries_of(page, self.seen)):
            self.seen = max(self.seen, page[-1].seq)

    def _show_some(self, entries: Iterable[Entry]) -> bool:
        """Show entries as long as the buffer is less than half full. True when that was all of them."""
        for entry in entries:
            if self.connection.half_full:
                return False
            self.show(entry)
        return True


def _too_old(session_id: int, first_seq: int) -> frame_pb2.ServerFrame:
    return frame_pb2.ServerFrame(too_old=frame_pb2.TooOld(session_id=session_id, first_seq=first_seq))
