"""One session on one chat instance: its live subject, the end of its log, and the streams that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from google.protobuf.message import DecodeError
from octopus.chat.v1 import chat_events_pb2, frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import BusError, StreamExtent, Unavailable
from mesh.retrying import retrying
from mesh.telemetry.outage import Outage
from services.chat import metrics
from services.chat.background import Background
from services.chat.connection import Ending, encoded
from services.chat.domain import Participation, Stage
from services.chat.replay import ReplayScheduler
from services.chat.tail import Entry, Log, Tail, TailMemory

if TYPE_CHECKING:
    from services.chat.follower import Follower

_log = structlog.get_logger(__name__)

LOG_LOST = Ending(
    errors_pb2.REASON_UNAVAILABLE, "the log was lost and begins anew; connect again and resume", reconnect_after=1.0
)

_STAGES = {
    session_pb2.SESSION_STATE_BOT: Stage.BOT,
    session_pb2.SESSION_STATE_WAITING: Stage.WAITING,
    session_pb2.SESSION_STATE_ASSIGNED: Stage.ASSIGNED,
    session_pb2.SESSION_STATE_ACTIVE: Stage.ACTIVE,
    session_pb2.SESSION_STATE_WARNING: Stage.ACTIVE,
    session_pb2.SESSION_STATE_ENDED: Stage.ENDED,
}


def participation(session: session_pb2.Session) -> Participation:
    """Return a session as the rules see it."""
    return Participation(
        _STAGES[session.state], session.customer_id, session.agent_id, accepted=session.HasField("accepted_at")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What all rooms of an instance read the log with."""

    log: Log
    # From where to where the log goes, up to date when it is asked for a later position than was known.
    extent: Callable[[int], Awaitable[StreamExtent]]
    memory: TailMemory
    replays: ReplayScheduler
    background: Background
    # Entries in one read, and the newest entries of a session that a stream resumes with at most.
    page: int
    resume_limit: int


class Room:
    """A session that somebody connected here takes part in.

    While the room is `current`, its tail ends where the log ends, and live entries are appended to it and pushed to the
    followers that are live. At first, after a gap and when the bus was away, one task reads the log for all followers,
    and they catch up in turns; what is heard meanwhile is read, not kept.
    """

    __slots__ = (
        "_doubted",
        "_heard",
        "_opened",
        "_reader",
        "_wanted_from",
        "followers",
        "listening",
        "on_empty",
        "reading",
        "session",
        "tail",
    )

    def __init__(self, session: session_pb2.Session, reading: Reading, on_empty: Callable[[Room], None]) -> None:
        self.session = session
        self.reading = reading
        self.tail = Tail(reading.log, self.log_subject, reading.memory, limit=reading.resume_limit, page=reading.page)
        self.followers: set[Follower] = set()
        # Done once the live subject is subscribed to: who reads the log before that could miss entries.
        self.listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Called when the room has no followers left.
        self.on_empty = on_empty
        self._reader: asyncio.Task[None] | None = None
        # Whether the log was read to its end, and nothing was missed since.
        self._opened = False
        # The position from which the tail is to be read again; None to continue at its end.
        self._wanted_from: int | None = None
        # The newest position that was received live.
        self._heard = 0
        # Whether the bus may have lost what it sent last.
        self._doubted = False

    @property
    def session_id(self) -> int:
        """Return the session's id."""
        return self.session.id

    @property
    def tenant_id(self) -> str:
        """Return the session's shop."""
        return self.session.tenant_id

    @property
    def log_subject(self) -> str:
        """Return where the session's entries are stored."""
        return f"log.{self.session.tenant_id}.{self.session.id}"

    @property
    def live_subject(self) -> str:
        """Return the subject of the session's stored entries and signals."""
        return f"live.{self.session.tenant_id}.{self.session.id}.*"

    @property
    def over(self) -> bool:
        """Return whether the session has ended."""
        return self.session.state == session_pb2.SESSION_STATE_ENDED

    def learn(self, session: session_pb2.Session) -> None:
        """Take a snapshot unless it is older than the one known."""
        if session.version >= self.session.version:
            self.session = session

    def add(self, follower: Follower) -> None:
        """Let a stream follow; called by `Follower.join`."""
        self.followers.add(follower)

    def remove(self, follower: Follower) -> None:
        """Let a stream follow no longer; called by `Follower.leave`."""
        self.followers.discard(follower)
        if not self.followers:
            self.on_empty(self)

    def hear(self, data: bytes, headers: Mapping[str, str], subject: str) -> None:
        """Process a live entry or signal of the session."""
        if subject.endswith(".signal"):
            self._pass_on(chat_events_pb2.Signal.FromString(data))
            return
        seq = int(headers["Nats-Sequence"])
        self._heard = max(self._heard, seq)
        try:
            entry = Entry(data, seq, int(headers["Nats-Last-Sequence"]))
        except DecodeError:
            metrics.UNREADABLE.inc()
            _log.exception("log entry not readable, left out", session_id=self.session_id, seq=seq)
            return
        if entry.change is not None:
            self.learn(entry.change)
        if self.current:
            if self.tail.append(entry):
                for follower in list(self.followers):
                    if follower.live:
                        follower.show(entry)
            else:
                self.read_on()
        if entry.change is not None:
            self._let_go()

    @property
    def current(self) -> bool:
        """Return whether the tail ends where the log ends."""
        return self._opened and self._reader is None and self._wanted_from is None

    def doubt(self) -> None:
        """Read on after an outage of the bus, and check that entries received before it were stored."""
        self._doubted = True
        self._heard = 0
        self.read_on()

    def read_on(self) -> None:
        """Read what may have been missed, for all followers."""
        self._opened = False
        for follower in self.followers:
            follower.live = False
        if self._reader is None:
            self._reader = self.reading.background.spawn(
                self._read(), name=f"read log {self.session_id}", on_failure=self._give_up
            )

    async def until_current(self) -> bool:
        """Wait until the tail ends where the log ends. Return False when reading failed, and the streams end."""
        if self._reader is None:
            self.read_on()
        if self._reader is not None:
            await asyncio.wait([self._reader])
        return self._opened

    async def until_held(self, seq: int) -> bool:
        """Wait until the tail holds what follows a position, or the newest entries. Returns as `until_current`."""
        while True:
            if self._reader is None:
                if self.current and (self.tail.full or seq >= self.tail.after):
                    return True
                self._wanted_from = seq
            elif self._wanted_from is not None:
                self._wanted_from = min(seq, self._wanted_from)
            # A read that is under way may be enough.
            if not await self.until_current():
                return False

    def caught_up(self, follower: Follower) -> None:
        """Note that a follower has been shown everything."""
        if self.over:
            follower.leave()

    def stop(self) -> None:
        """Give back what the room holds; its followers have left."""
        if self._reader is not None:
            self._reader.cancel()
        self.reading.memory.drop(self.tail)

    async def _read(self) -> None:
        outage = Outage(_log, "log not read, retrying", "log read again", session_id=self.session_id)
        retry = retrying(outage, BusError, ends=lambda: not self.followers)
        while self.followers and not self._opened:
            self._opened = bool(await retry(self._read_once))
        self._reader = None
        for follower in list(self.followers):
            follower.catch_up()

    async def _read_once(self) -> bool:
        """Read on, or from where a follower wants it; return whether the tail is complete. Raise BusError."""
        wanted, self._wanted_from = self._wanted_from, None
        self.reading.memory.used(self.tail, asyncio.get_running_loop().time())
        try:
            async with self.reading.replays.turn():
                if self._doubted and not await self._verify():
                    return False
                ended = await (self.tail.read_on() if wanted is None else self.tail.read_from(wanted))
        except BusError:
            if wanted is not None:
                self._wanted_from = wanted if self._wanted_from is None else min(wanted, self._wanted_from)
            raise
        if ended and self._wanted_from is None and self.tail.last < self._heard:
            raise Unavailable("the replica that was read is behind the live entries")
        return ended and self._wanted_from is None

    async def _verify(self) -> bool:
        """Retract live entries that the bus lost in a crash. Return False when there are too many: streams end.

        A message that is sent again by its author is then shown no second time, and what has taken its position is.
        """
        extent = await self.reading.extent(0)
        found = await self.tail.lost(extent.first_seq)
        if found is None:
            self._reader = None
            self.tail.rewind(0)
            for follower in list(self.followers):
                follower.connection.end(LOG_LOST)
                follower.leave()
            return False
        position, lost = found
        if lost:
            self.tail.rewind(position)
            for follower in self.followers:
                follower.rewind(position, lost)
        self._doubted = False
        return True

    def _give_up(self) -> None:
        self._reader = None
        for follower in list(self.followers):
            follower.give_up()

    def _let_go(self) -> None:
        """Remove followers that no longer take part, and all of them when the session is over."""
        now = participation(self.session)
        for follower in list(self.followers):
            if not now.includes(follower.connection.principal.user_id) or (self.over and follower.live):
                follower.leave()

    def _pass_on(self, signal: chat_events_pb2.Signal) -> None:
        frame = frame_pb2.ServerFrame()
        if signal.HasField("typing"):
            frame.typing.CopyFrom(signal.typing)
            author = signal.typing.sender.user_id
        else:
            frame.receipt.CopyFrom(signal.receipt)
            author = signal.receipt.sender.user_id
        data = encoded(frame)
        for follower in self.followers:
            if author == 0 or follower.connection.principal.user_id != author:
                follower.connection.push_encoded(data)
