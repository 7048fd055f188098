"""A log, a bus and a session service in memory, with the faults that a test asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from octopus.chat.v1 import chat_events_pb2, chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_events_pb2, session_pb2

from mesh.bus import StoredMessage, StreamExtent
from mesh.errors import Refused
from mesh.rpc.principal import Principal
from services.chat.connection import Connection
from services.chat.log_extent import LogExtent
from services.chat.registry import ConnectionRegistry

TENANT = "fakes"
Callback = Callable[[bytes, Mapping[str, str], str], None]


class FakeSubscription:
    """Interest in a subject."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    async def unsubscribe(self) -> None:
        """End it."""
        self._end()


class FakeBus:
    """A stream with one sequence for all subjects, and subscriptions that hear what the test lets through."""

    def __init__(self) -> None:
        self.stored: list[tuple[int, str, bytes]] = []
        self.subscriptions: dict[int, tuple[str, Callback]] = {}
        self.reads = 0
        # Called before each read; may raise or wait.
        self.before_read: Callable[[], None] = lambda: None
        self._next_sid = 0

    @property
    def last_seq(self) -> int:
        """The sequence of the last message."""
        return self.stored[-1][0] if self.stored else 0

    def store(self, subject: str, data: bytes) -> Callable[[], None]:
        """Store a message; returns what sends it on to those who listen."""
        previous = max((seq for seq, at, _ in self.stored if at == subject), default=0)
        seq = self.last_seq + 1
        self.stored.append((seq, subject, data))
        headers = {"Nats-Sequence": str(seq), "Nats-Last-Sequence": str(previous)}
        live = f"live.{subject.removeprefix('log.')}.message"
        return lambda: self.send(live, data, headers)

    def send(self, subject: str, data: bytes, headers: Mapping[str, str]) -> None:
        """Send to those who listen."""
        for pattern, callback in list(self.subscriptions.values()):
            if pattern == subject or (pattern.endswith(".*") and subject.startswith(pattern[:-1])):
                callback(data, headers, subject)

    async def subscribe(self, subject: str, callback: Callback) -> FakeSubscription:
        """Listen."""
        await asyncio.sleep(0)
        self._next_sid += 1
        sid = self._next_sid
        self.subscriptions[sid] = (subject, callback)
        return FakeSubscription(lambda: self.subscriptions.pop(sid, None) and None)

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return entries after a position."""
        await asyncio.sleep(0)
        self.reads += 1
        self.before_read()
        found = [(seq, data) for seq, at, data in self.stored if at == subject and seq > after_seq]
        await asyncio.sleep(0)
        return [
            StoredMessage(seq, subject, data, {"Nats-Num-Pending": str(len(found) - number)}, datetime.now(UTC))
            for number, (seq, data) in enumerate(found[:limit], 1)
        ]

    async def last(self, subject: str) -> StoredMessage | None:
        """Return the last entry."""
        self.reads += 1
        found = [(seq, data) for seq, at, data in self.stored if at == subject]
        return StoredMessage(found[-1][0], subject, found[-1][1], {}, datetime.now(UTC)) if found else None

    async def extent_of(self, stream: str) -> StreamExtent:
        """Return from where to where the log goes."""
        return StreamExtent(1, datetime.fromtimestamp(0, UTC), self.last_seq)


class FakeSessions:
    """Sessions as the session service knows them."""

    def __init__(self, bus: FakeBus) -> None:
        self.known: dict[int, session_pb2.Session] = {}
        # Positions of internal notes.
        self.notes: set[int] = set()
        self._bus = bus
        self._ids = iter(range(1, 1_000_000))

    def open(self, session_id: int, customer_id: int, agent_id: int = 0) -> session_pb2.Session:
        """Open a session, active when it has an agent."""
        state = session_pb2.SESSION_STATE_ACTIVE if agent_id else session_pb2.SESSION_STATE_BOT
        session = session_pb2.Session(
            id=session_id, tenant_id=TENANT, customer_id=customer_id, agent_id=agent_id, state=state, version=1
        )
        session.opened_at.GetCurrentTime()
        self.known[session_id] = session
        return session

    def say(self, session: session_pb2.Session, words: str = "words") -> Callable[[], None]:
        """Store a message; returns what makes it heard."""
        message = message_pb2.Message(id=next(self._ids), session_id=session.id)
        message.content.text.text = words
        return self._store(session, message)

    def note(self, session: session_pb2.Session) -> Callable[[], None]:
        """Store an internal note; returns what makes it heard."""
        message = message_pb2.Message(id=next(self._ids), session_id=session.id)
        message.content.note.text = "for colleagues"
        heard = self._store(session, message)
        self.notes.add(self._bus.last_seq)
        return heard

    def change(self, session: session_pb2.Session, agent_id: int) -> list[Callable[[], None]]:
        """Give the session to another agent; returns what makes the change and its notices heard."""
        concerned = {session.customer_id, session.agent_id, agent_id} - {0}
        session.agent_id = agent_id
        session.state = session_pb2.SESSION_STATE_ACTIVE if agent_id else session_pb2.SESSION_STATE_WAITING
        session.version += 1
        message = message_pb2.Message(id=next(self._ids), session_id=session.id)
        message.content.change.session.CopyFrom(session)
        notice = session_events_pb2.SessionNotice(session=session).SerializeToString()
        heard = [self._store(session, message)]
        for user_id in concerned:
            subject = f"notice.{TENANT}.{user_id}"
            heard.append(lambda subject=subject: self._bus.send(subject, notice, {}))  # type: ignore[misc]
        return heard

    def _store(self, session: session_pb2.Session, message: message_pb2.Message) -> Callable[[], None]:
        entry = chat_events_pb2.LogEntry(message=message, tenant_id=TENANT, customer_id=session.customer_id)
        return self._bus.store(f"log.{TENANT}.{session.id}", entry.SerializeToString())

    async def list_open(self, principal: Principal) -> Sequence[session_pb2.Session]:
        """Return the open sessions of a person."""
        await asyncio.sleep(0)
        found = [s for s in self.known.values() if principal.user_id in (s.customer_id, s.agent_id)]
        return [_copy(session) for session in found]

    async def get(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Return one session."""
        session = self.known.get(session_id)
        if session is None or principal.user_id not in (session.customer_id, session.agent_id):
            raise Refused(errors_pb2.REASON_NOT_FOUND, "no such session")
        return _copy(session)


def _copy(session: session_pb2.Session) -> session_pb2.Session:
    copy = session_pb2.Session()
    copy.CopyFrom(session)
    return copy


def connection(user_id: int, *, frames: int = 1_000_000) -> Connection:
    """Return a stream of somebody, with room for everything."""
    role = options_pb2.ROLE_AGENT if user_id >= 20 else options_pb2.ROLE_CUSTOMER
    now = time.monotonic()
    return Connection(
        Principal(TENANT, user_id, frozenset({role})),
        now=now,
        ends_at=now + 3600,
        max_frames=frames,
        max_bytes=1 << 30,
        talks_back=True,
    )


def shown(stream: Connection) -> list[frame_pb2.ServerFrame]:
    """Take the frames that wait for a stream."""
    return list(chat_service_pb2.ConverseResponse.FromString(stream.take(1 << 30)).frames)


def registry(bus: FakeBus, sessions: FakeSessions, *, resume_limit: int = 1000) -> ConnectionRegistry:
    """Return a registry on the fakes."""
    return ConnectionRegistry(
        bus,  # type: ignore[arg-type]  # as far as the registry uses the bus
        sessions,
        LogExtent(bus),
        replay_page=50,
        resume_limit=resume_limit,
        tail_memory_bytes=1 << 20,
    )
