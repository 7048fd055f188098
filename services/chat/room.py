"""One session on one chat instance: its live subject, and the connections that follow its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from octopus.chat.v1 import chat_events_pb2, frame_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import BusError, StoredMessage
from services.chat.connection import Connection, encoded
from services.chat.domain import Participation, Stage, Step, next_step

_log = structlog.get_logger(__name__)

# How long a device that is catching up waits after a failed read of the log, in seconds: grows to the second value.
_RETRY_S = (0.2, 5.0)

_STAGES = {
    session_pb2.SESSION_STATE_BOT: Stage.BOT,
    session_pb2.SESSION_STATE_WAITING: Stage.WAITING,
    session_pb2.SESSION_STATE_ASSIGNED: Stage.ASSIGNED,
    session_pb2.SESSION_STATE_ACTIVE: Stage.ACTIVE,
    session_pb2.SESSION_STATE_ENDED: Stage.ENDED,
}


def participation(session: session_pb2.Session) -> Participation:
    """Return a session as the rules see it."""
    return Participation(_STAGES[session.state], session.customer_id, session.agent_id)


class Log(Protocol):
    """Where a session's entries can be read again."""

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return entries after a position, in order."""


class Entry:
    """A log entry, ready to be shown: built once for all who follow the session."""

    __slots__ = ("change", "encoded", "message_id", "previous_seq", "seq")

    def __init__(self, data: bytes, seq: int, previous_seq: int) -> None:
        message = chat_events_pb2.LogEntry.FromString(data).message
        message.seq = seq
        message.previous_seq = previous_seq
        self.seq = seq
        self.previous_seq = previous_seq
        self.message_id = message.id
        self.change = message.content.change.session if message.content.HasField("change") else None
        self.encoded = encoded(frame_pb2.ServerFrame(message=message))


class Follower:
    """One connection following one session: it sees every entry once and in order.

    Live entries come from the bus. When some may be missing (at first, after a gap, after the bus was away) it
    catches up from the log, and holds live entries back until it has.
    """

    __slots__ = ("_catching_up", "_held", "connection", "room", "seen")

    def __init__(self, room: Room, connection: Connection, seen: int) -> None:
        self.room = room
        self.connection = connection
        self.seen = seen
        self._held: list[Entry] = []
        self._catching_up: asyncio.Task[None] | None = None

    @property
    def behind(self) -> bool:
        """Whether entries before those shown are still being read."""
        return self._catching_up is not None

    def offer(self, entry: Entry) -> None:
        """Take a live entry."""
        if self._catching_up is not None:
            self._held.append(entry)
            return
        match next_step(self.seen, entry.previous_seq, entry.seq):
            case Step.SHOW:
                self._show(entry)
            case Step.REPAIR:
                self._held.append(entry)
                self.catch_up()
            case Step.SKIP:
                pass

    def catch_up(self) -> None:
        """Read the log from where this connection stands. Does nothing while that is under way."""
        if self._catching_up is None:
            self._catching_up = asyncio.create_task(self._catch_up(), name=f"catch-up-{self.room.session_id}")

    def stop(self) -> None:
        """Follow no longer."""
        if self._catching_up is not None:
            self._catching_up.cancel()

    def _show(self, entry: Entry) -> None:
        self.seen = entry.seq
        own = self.connection.own_messages
        if entry.message_id in own:
            own.discard(entry.message_id)
        else:
            self.connection.push_encoded(entry.encoded)

    async def _catch_up(self) -> None:
        pause = _RETRY_S[0]
        while self.connection.open:
            try:
                page = await self.room.log.read(self.room.log_subject, after_seq=self.seen, limit=self.room.replay_page)
            except BusError as error:
                # The bus is away or slow: what is missing is still missing, so try until the connection goes.
                _log.warning("catch_up_failed", session_id=self.room.session_id, error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_S[1])
                continue
            for stored in page:
                # The log is read faster than a telephone reads.
                await self.connection.settle()
                self._show(Entry(stored.data, stored.seq, self.seen))
            if len(page) < self.room.replay_page and not self._release_held():
                break
        self._catching_up = None
        self.room.caught_up(self)

    def _release_held(self) -> bool:
        """Show what came meanwhile; True when an entry before one of those is still missing."""
        held, self._held = self._held, []
        for position, entry in enumerate(held):
            step = next_step(self.seen, entry.previous_seq, entry.seq)
            if step is Step.REPAIR:
                self._held = held[position:]
                return True
            if step is Step.SHOW:
                self._show(entry)
        return False


class Room:
    """A session that somebody connected here takes part in."""

    def __init__(self, session: session_pb2.Session, log: Log, replay_page: int) -> None:
        self.session = session
        self.log = log
        self.replay_page = replay_page
        self.followers: dict[Connection, Follower] = {}
        # Set once the live subject is subscribed to: who reads the log before that could miss entries.
        self.listening = asyncio.Event()
        # Called when nobody needs the room any more.
        self.on_empty: Callable[[Room], None] = lambda _room: None

    @property
    def session_id(self) -> int:
        """The session's id."""
        return self.session.id

    @property
    def tenant_id(self) -> str:
        """The session's shop."""
        return self.session.tenant_id

    @property
    def log_subject(self) -> str:
        """Where the session's entries are stored."""
        return f"log.{self.session.tenant_id}.{self.session.id}"

    @property
    def live_subject(self) -> str:
        """Where stored entries and passing signals of the session are heard."""
        return f"live.{self.session.tenant_id}.{self.session.id}.*"

    def learn(self, session: session_pb2.Session) -> bool:
        """Take a snapshot when it is not older than the one known; True when it was taken."""
        if session.version < self.session.version:
            return False
        self.session = session
        return True

    def follow(self, connection: Connection, seen: int) -> None:
        """Let a connection follow from a position on. Once is enough."""
        if connection not in self.followers:
            follower = Follower(self, connection, seen)
            self.followers[connection] = follower
            follower.catch_up()

    def leave(self, connection: Connection) -> None:
        """Let a connection follow no longer."""
        follower = self.followers.pop(connection, None)
        if follower is not None:
            follower.stop()
        if not self.followers:
            self.on_empty(self)

    def hear(self, data: bytes, headers: Mapping[str, str], subject: str) -> None:
        """Take what the bus brings for this session."""
        if subject.endswith(".signal"):
            self._pass_on(chat_events_pb2.Signal.FromString(data))
            return
        entry = Entry(data, int(headers["Nats-Sequence"]), int(headers["Nats-Last-Sequence"]))
        if entry.change is not None:
            self.learn(entry.change)
        for follower in list(self.followers.values()):
            follower.offer(entry)
        self._close_when_over()

    def caught_up(self, follower: Follower) -> None:
        """Note that a follower has read the log to its end."""
        if self.session.state == session_pb2.SESSION_STATE_ENDED:
            self.leave(follower.connection)

    def catch_up(self) -> None:
        """Let everybody read what may have been missed."""
        for follower in list(self.followers.values()):
            follower.catch_up()

    def _close_when_over(self) -> None:
        if self.session.state == session_pb2.SESSION_STATE_ENDED:
            for connection, follower in list(self.followers.items()):
                if not follower.behind:
                    self.leave(connection)

    def _pass_on(self, signal: chat_events_pb2.Signal) -> None:
        frame = frame_pb2.ServerFrame()
        if signal.HasField("typing"):
            frame.typing.CopyFrom(signal.typing)
            author = signal.typing.sender.user_id
        else:
            frame.receipt.CopyFrom(signal.receipt)
            author = signal.receipt.sender.user_id
        data = encoded(frame)
        for connection in self.followers:
            if author == 0 or connection.principal.user_id != author:
                connection.push_encoded(data)
