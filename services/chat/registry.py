"""Who is connected to this instance, and which sessions that makes it listen to.

NATS interest is the routing table: an instance subscribes to the notices of the users connected to it and to the
live subjects of their open sessions, and to nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_events_pb2, session_pb2

from mesh.bus import Bus, Subscription
from mesh.errors import Refused
from mesh.retrying import retrying
from mesh.rpc.principal import Principal
from mesh.telemetry.outage import Outage
from services.chat import metrics
from services.chat.attach_queue import AttachQueue
from services.chat.background import Background
from services.chat.connection import Connection
from services.chat.domain import UnknownSession
from services.chat.follower import BROKEN, Follower
from services.chat.log_extent import LogExtent
from services.chat.room import participation
from services.chat.rooms import Rooms

_log = structlog.get_logger(__name__)

# How long somebody whose sessions this instance knows itself waits for the session service, in seconds.
_KNOWN_WAIT_S: Final = 1.5
# The session service, or its database, is unreachable.
_AWAY: Final = frozenset({errors_pb2.REASON_UNAVAILABLE, errors_pb2.REASON_DEADLINE_EXCEEDED})

# Connections whose sessions are read at once after an outage of the bus.
_ASK_AT_ONCE: Final = 8

UserKey = tuple[str, int]


class Sessions(Protocol):
    """Sessions, as read from the session service."""

    async def list_open(self, principal: Principal) -> Sequence[session_pb2.Session]:
        """Return the open sessions in which a person takes part."""

    async def get(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Return one session; `Refused` with NOT_FOUND when the caller may not see it."""


class _User:
    """All connections of one user here, and their shared subscription to notices."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.subscription: Subscription | None = None
        # Held while subscribing, so that two devices that come at once do so once.
        self.subscribing = asyncio.Lock()


class ConnectionRegistry:
    """Connections, their users, and the rooms they follow."""

    def __init__(
        self,
        bus: Bus,
        sessions: Sessions,
        extent: LogExtent,
        *,
        replay_page: int,
        resume_limit: int,
        tail_memory_bytes: int,
        attaching: AttachQueue | None = None,
    ) -> None:
        self._bus = bus
        self._sessions = sessions
        self._users: dict[UserKey, _User] = {}
        # What each stream follows or has followed, by session id; kept for the stream's life.
        self._followers: dict[Connection, dict[int, Follower]] = {}
        self._asking = asyncio.Semaphore(_ASK_AT_ONCE)
        self._attaching = attaching or AttachQueue()
        self._background = Background()
        # Called with each person of whom a stream has begun, and before one is taken away.
        self.on_presence: Callable[[UserKey], None] | None = None
        self.rooms: Final = Rooms(
            bus,
            extent,
            self._background,
            replay_page=replay_page,
            resume_limit=resume_limit,
            tail_memory_bytes=tail_memory_bytes,
        )

    @property
    def users(self) -> list[UserKey]:
        """Return all who are connected."""
        return list(self._users)

    @property
    def connections(self) -> list[Connection]:
        """Return all open connections."""
        return [connection for user in self._users.values() for connection in user.connections]

    def connections_of(self, tenant_id: str, user_id: int) -> list[Connection]:
        """Return all open connections of one user."""
        user = self._users.get((tenant_id, user_id))
        return [] if user is None else list(user.connections)

    async def attach(self, connection: Connection, cursors: Mapping[int, int]) -> Sequence[session_pb2.Session]:
        """Connect a person: subscribe to their notices, follow their open sessions, replay what they missed.

        `cursors` are the positions the device has, by session. Sessions named there that have ended in the meantime are
        replayed to their end. Returns the open sessions.

        While the session service does not answer, those count that others follow on this instance: the log keeps their
        rooms up to date. The rest is made good when it answers again.

        Raises:
            TooManyConnecting: it would take too long until this person's turn comes.
            Refused: the session service does not answer, and nothing of this person is known here.

        """
        principal = connection.principal
        key = (principal.tenant_id, principal.user_id)
        # Before any notice can come: a session followed because of it begins at the device's position too.
        self._followers[connection] = {session_id: Follower(connection, seen) for session_id, seen in cursors.items()}
        user = self._users.setdefault(key, _User())
        user.connections.add(connection)
        metrics.CONNECTIONS.inc()
        self._tell_presence(key)
        async with self._attaching.turn():
            async with user.subscribing:
                if user.subscription is None:
                    user.subscription = await self._bus.subscribe(
                        f"notice.{principal.tenant_id}.{principal.user_id}",
                        lambda data, _headers, _subject: self._on_notice(user, data),
                    )
            # Asked for after subscribing, so that no change falls between the two.
            known = self.rooms.of(principal.tenant_id, principal.user_id)
            try:
                async with asyncio.timeout(_KNOWN_WAIT_S if known else None):
                    sessions = await self._sessions.list_open(principal)
                    await self._follow_all(connection, sessions, cursors)
            except (Refused, TimeoutError) as error:
                if not known or (isinstance(error, Refused) and error.reason not in _AWAY):
                    raise
                _log.warning("session service unreachable, sessions known here are followed", count=len(known))
                sessions = known
                for session in sessions:
                    await self._join(connection, session)
                self._background.spawn(
                    self._refresh(connection, cursors),
                    name="attach fully",
                    on_failure=lambda: connection.end(BROKEN),
                )
        return sessions

    async def _follow_all(
        self, connection: Connection, sessions: Sequence[session_pb2.Session], cursors: Mapping[int, int]
    ) -> None:
        """Let a stream follow a person's open sessions, and replay those that its cursors name besides."""
        for session in sessions:
            await self._join(connection, session)
        for session_id in cursors.keys() - {session.id for session in sessions}:
            named = await self._own(connection.principal, session_id)
            if named is None:
                connection.push(_refusal_of_cursor(session_id))
            else:
                await self._join(connection, named)

    async def _own(self, principal: Principal, session_id: int) -> session_pb2.Session | None:
        """Return a session in which the person takes part. To see one, as a colleague or supervisor may, is less."""
        try:
            session = await self._sessions.get(principal, session_id)
        except Refused as refused:
            if refused.reason != errors_pb2.REASON_NOT_FOUND:
                raise
            return None
        return session if participation(session).includes(principal.user_id) else None

    async def detach(self, connection: Connection) -> None:
        """Forget a connection, and stop listening to what only it needed."""
        connection.close()
        for follower in self._followers.pop(connection, {}).values():
            follower.leave()
        principal = connection.principal
        key = (principal.tenant_id, principal.user_id)
        user = self._users.get(key)
        if user is None or connection not in user.connections:
            return
        self._tell_presence(key)
        user.connections.discard(connection)
        metrics.CONNECTIONS.dec()
        if not user.connections:
            del self._users[key]
            if user.subscription is not None:
                await user.subscription.unsubscribe()

    def _tell_presence(self, key: UserKey) -> None:
        if self.on_presence is not None:
            self.on_presence(key)

    async def session(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Return a session as it is now; from the room when there is one, else from the session service."""
        room = self.rooms.get(principal.tenant_id, session_id)
        if room is not None:
            return room.session
        try:
            return await self._sessions.get(principal, session_id)
        except Refused as refused:
            if refused.reason == errors_pb2.REASON_NOT_FOUND:
                raise UnknownSession("no such session among yours") from None
            raise

    async def refetch(self, principal: Principal, session_id: int) -> session_pb2.Session | None:
        """Ask the session service again: a change may be on its way here. None when the caller may not see it."""
        try:
            session = await self._sessions.get(principal, session_id)
        except Refused as refused:
            if refused.reason == errors_pb2.REASON_NOT_FOUND:
                return None
            raise
        room = self.rooms.get(principal.tenant_id, session_id)
        if room is not None:
            room.learn(session)
        return session

    async def follow(self, connection: Connection, session_id: int) -> session_pb2.Session:
        """Return a session in which the connection's person takes part, and follow it from now on."""
        follower = self.follower(connection, session_id)
        if follower is not None and follower.room is not None:
            return follower.room.session
        session = await self.session(connection.principal, session_id)
        if not participation(session).includes(connection.principal.user_id):
            raise UnknownSession("no such session among yours")
        if session.state != session_pb2.SESSION_STATE_ENDED:
            await self._join(connection, session)
        return session

    def follower(self, connection: Connection, session_id: int) -> Follower | None:
        """Return what is known of a stream in a session."""
        return self._followers.get(connection, {}).get(session_id)

    def repair(self) -> None:
        """Read again what may have been missed while the bus was unreachable."""
        self.rooms.doubt()
        for connection in self.connections:
            self._background.spawn(
                self._refresh(connection),
                name="refresh sessions",
                on_failure=lambda connection=connection: connection.end(BROKEN),  # type: ignore[misc]  # bound per turn
            )

    async def _refresh(self, connection: Connection, cursors: Mapping[int, int] | None = None) -> None:
        """Learn what notices may have been missed; asks until the session service answers or the stream has ended.

        With `cursors`, also follow the sessions that they name.
        """
        outage = Outage(_log, "sessions not refreshed, retrying", "sessions refreshed again")
        retry = retrying(outage, Refused, first=0.5, longest=10.0, ends=lambda: not connection.open)

        async def refresh() -> None:
            sessions = await self._list_open(connection.principal)
            for session in sessions:
                connection.push(_update(session))
            await self._follow_all(connection, sessions, cursors or {})

        await retry(refresh)

    async def _list_open(self, principal: Principal) -> Sequence[session_pb2.Session]:
        async with self._asking:
            return await self._sessions.list_open(principal)

    async def _join(self, connection: Connection, session: session_pb2.Session) -> None:
        """Let a stream follow a session, unless the stream has ended or its person no longer takes part."""
        room = await self.rooms.open(session)
        followers = self._followers.get(connection)
        if followers is None or not connection.open:
            if not room.followers:
                self.rooms.leave_empty(room)
            return
        follower = followers.get(session.id)
        if follower is None:
            follower = followers[session.id] = Follower(connection, 0)
        if participation(room.session).includes(connection.principal.user_id):
            self.rooms.keep(room)
            follower.join(room)
        elif not room.followers:
            self.rooms.leave_empty(room)

    def _on_notice(self, user: _User, data: bytes) -> None:
        session = session_events_pb2.SessionNotice.FromString(data).session
        room = self.rooms.get(session.tenant_id, session.id)
        if room is not None:
            room.learn(session)
            # Notices may come in another order than the changes.
            newest = room.session
        else:
            newest = session
        for connection in list(user.connections):
            followers = self._followers.get(connection, {})
            follower = followers.get(session.id)
            if follower is not None and newest.version < follower.version:
                continue
            mine = participation(newest).includes(connection.principal.user_id)
            # Those who no longer take part receive only what was addressed to them.
            connection.push(_update(newest if mine else session))
            if follower is None and mine:
                follower = followers[session.id] = Follower(connection, 0)
            if follower is not None:
                follower.version = newest.version
            if follower is not None and not mine:
                follower.leave()
            elif mine and newest.state != session_pb2.SESSION_STATE_ENDED:
                self._background.spawn(
                    self._join(connection, newest),
                    name="follow session",
                    on_failure=lambda connection=connection: connection.end(BROKEN),  # type: ignore[misc]  # bound per turn
                )


def _update(session: session_pb2.Session) -> frame_pb2.ServerFrame:
    return frame_pb2.ServerFrame(session=frame_pb2.SessionUpdate(session=session))


def _refusal_of_cursor(session_id: int) -> frame_pb2.ServerFrame:
    return frame_pb2.ServerFrame(
        refusal=frame_pb2.Refusal(
            reason=errors_pb2.REASON_NOT_FOUND,
            description="no such session among yours; forget this cursor",
            session_id=session_id,
        )
    )
