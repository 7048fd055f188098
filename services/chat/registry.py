"""Who is connected to this instance, and which sessions that makes it listen to.

NATS interest is the routing table: an instance subscribes to the notices of the users connected to it and to the
live subjects of their open sessions, and to nothing else.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_events_pb2, session_pb2

from mesh.bus import Bus, StreamExtent, Subscription
from mesh.errors import Refused
from mesh.rpc.principal import Principal
from services.chat import metrics
from services.chat.connection import Connection, encoded
from services.chat.domain import UnknownSession, is_too_old
from services.chat.room import Room, participation

_log = structlog.get_logger(__name__)

# Seconds for which the start of the log is remembered; it moves slowly.
_LOG_START_KNOWN_S = 10.0
# Connections whose sessions are asked for at once after the bus was away.
_REFRESH_AT_ONCE = 16

UserKey = tuple[str, int]


class Sessions(Protocol):
    """What the session service knows."""

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

    def __init__(self, bus: Bus, sessions: Sessions, replay_page: int) -> None:
        self._bus = bus
        self._sessions = sessions
        self._replay_page = replay_page
        self._users: dict[UserKey, _User] = {}
        self._rooms: dict[tuple[str, int], Room] = {}
        self._subscriptions: dict[Room, Subscription] = {}
        # From where to where the log goes, and when that was asked.
        self._extent: tuple[StreamExtent | None, float] = (None, -math.inf)
        self._refreshing = asyncio.Semaphore(_REFRESH_AT_ONCE)
        self._refreshes: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection for user in self._users.values() for connection in user.connections]

    def connections_of(self, tenant_id: str, user_id: int) -> list[Connection]:
        """All open connections of one user."""
        user = self._users.get((tenant_id, user_id))
        return [] if user is None else list(user.connections)

    async def attach(self, connection: Connection, cursors: Mapping[int, int]) -> Sequence[session_pb2.Session]:
        """Connect a person: hear their notices, follow their open sessions, replay what they missed.

        `cursors` are the positions the device has, by session. Sessions named there that have ended meanwhile are
        replayed to their end. Returns the open sessions.
        """
        principal = connection.principal
        key = (principal.tenant_id, principal.user_id)
        user = self._users.setdefault(key, _User())
        user.connections.add(connection)
        metrics.CONNECTIONS.inc()
        async with user.subscribing:
            if user.subscription is None:
                user.subscription = await self._bus.subscribe(
                    f"notice.{principal.tenant_id}.{principal.user_id}",
                    lambda data, _headers, _subject: self._on_notice(user, data),
                )
        # Asked for after subscribing, so that no change falls between the two.
        sessions = await self._sessions.list_open(principal)
        log = await self._log_extent(max(cursors.values(), default=0)) if cursors or sessions else None
        for session in sessions:
            await self._follow(connection, session, cursors.get(session.id, 0), log)
        for session_id in cursors.keys() - {session.id for session in sessions}:
            try:
                ended = await self._sessions.get(principal, session_id)
                await self._follow(connection, ended, cursors[session_id], log)
            except Refused as refused:
                if refused.reason != errors_pb2.REASON_NOT_FOUND:
                    raise
                connection.push(_refusal_of_cursor(session_id))
        return sessions

    async def detach(self, connection: Connection) -> None:
        """Forget a connection, and stop listening to what only it needed."""
        connection.close()
        for room in [room for room in self._rooms.values() if connection in room.followers]:
            room.leave(connection)
        principal = connection.principal
        key = (principal.tenant_id, principal.user_id)
        user = self._users.get(key)
        if user is None or connection not in user.connections:
            return
        user.connections.discard(connection)
        metrics.CONNECTIONS.dec()
        if not user.connections:
            del self._users[key]
            if user.subscription is not None:
                await user.subscription.unsubscribe()

    async def session(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Return a session as it is now; from the room when there is one, else from the session service."""
        room = self._rooms.get((principal.tenant_id, session_id))
        if room is not None:
            return room.session
        try:
            return await self._sessions.get(principal, session_id)
        except Refused as refused:
            if refused.reason == errors_pb2.REASON_NOT_FOUND:
                raise UnknownSession("no such session among yours") from None
            raise

    async def refetch(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Ask the session service again: a change may be on its way here."""
        session = await self._sessions.get(principal, session_id)
        room = self._rooms.get((principal.tenant_id, session_id))
        if room is not None:
            room.learn(session)
        return session

    async def follow(self, connection: Connection, session_id: int) -> session_pb2.Session:
        """Return a session in which the connection's person takes part, and follow it from now on."""
        room = self._rooms.get((connection.principal.tenant_id, session_id))
        if room is not None and connection in room.followers:
            return room.session
        session = await self.session(connection.principal, session_id)
        if not participation(session).includes(connection.principal.user_id):
            raise UnknownSession("no such session among yours")
        if session.state != session_pb2.SESSION_STATE_ENDED:
            await self._follow(connection, session, 0, None)
        return session

    def repair(self) -> None:
        """Make good what may have been missed while the bus was away."""
        for room in list(self._rooms.values()):
            room.catch_up()
        for connection in self.connections:
            task = asyncio.create_task(self._refresh(connection), name="refresh-sessions")
            self._refreshes.add(task)
            task.add_done_callback(self._refreshes.discard)

    async def _refresh(self, connection: Connection) -> None:
        async with self._refreshing:
            if not connection.open:
                return
            try:
                for session in await self._sessions.list_open(connection.principal):
                    connection.push(_update(session))
                    await self._follow(connection, session, 0, None)
            except Refused as refused:
                # The next notice or the client's next connection brings what is missing.
                _log.warning("refresh_failed", reason=errors_pb2.Reason.Name(refused.reason))

    async def _log_extent(self, cursor: int) -> StreamExtent:
        """Return from where to where the log goes; up to date when a device claims to have seen more than was known."""
        known, asked_at = self._extent
        if known is None or cursor > known.last_seq or time.monotonic() - asked_at > _LOG_START_KNOWN_S:
            known = await self._bus.extent_of("LOG")
            self._extent = (known, time.monotonic())
        return known

    async def _follow(
        self,
        connection: Connection,
        session: session_pb2.Session,
        seen: int,
        log: StreamExtent | None,
    ) -> None:
        key = (session.tenant_id, session.id)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(session, self._bus, self._replay_page)
            room.on_empty = self._close
            try:
                self._subscriptions[room] = await self._bus.subscribe(room.live_subject, room.hear)
            except BaseException:
                # Whoever waits for this room opens another one.
                del self._rooms[key]
                raise
            finally:
                room.listening.set()
        else:
            room.learn(session)
            await room.listening.wait()
            if self._rooms.get(key) is not room:
                # It could not be opened, or everybody left it meanwhile.
                await self._follow(connection, session, seen, log)
                return
        if not connection.open:
            if not room.followers:
                self._close(room)
            return
        if log is not None:
            if seen > log.last_seq:
                # The device has seen what this log never had: the log was lost and begins anew.
                connection.push(_too_old(session.id, log.first_seq))
                seen = 0
            elif is_too_old(seen, log.first_seq, session.opened_at.seconds < log.time.timestamp()):
                connection.push(_too_old(session.id, log.first_seq))
        room.follow(connection, seen)

    def _close(self, room: Room) -> None:
        self._rooms.pop((room.tenant_id, room.session_id), None)
        subscription = self._subscriptions.pop(room, None)
        if subscription is not None:
            task = asyncio.create_task(subscription.unsubscribe(), name="leave-room")
            self._refreshes.add(task)
            task.add_done_callback(self._refreshes.discard)

    def _on_notice(self, user: _User, data: bytes) -> None:
        session = session_events_pb2.SessionNotice.FromString(data).session
        room = self._rooms.get((session.tenant_id, session.id))
        if room is not None:
            room.learn(session)
        update = encoded(_update(session))
        for connection in list(user.connections):
            connection.push_encoded(update)
            mine = participation(session).includes(connection.principal.user_id)
            if not mine and room is not None:
                room.leave(connection)
            elif mine and session.state != session_pb2.SESSION_STATE_ENDED:
                task = asyncio.create_task(self._follow(connection, session, 0, None), name="follow-session")
                self._refreshes.add(task)
                task.add_done_callback(self._refreshes.discard)


def _update(session: session_pb2.Session) -> frame_pb2.ServerFrame:
    return frame_pb2.ServerFrame(session=frame_pb2.SessionUpdate(session=session))


def _too_old(session_id: int, first_seq: int) -> frame_pb2.ServerFrame:
    return frame_pb2.ServerFrame(too_old=frame_pb2.TooOld(session_id=session_id, first_seq=first_seq))


def _refusal_of_cursor(session_id: int) -> frame_pb2.ServerFrame:
    return frame_pb2.ServerFrame(
        refusal=frame_pb2.Refusal(
            reason=errors_pb2.REASON_NOT_FOUND,
            description="no such session among yours; forget this cursor",
            session_id=session_id,
        )
    )
