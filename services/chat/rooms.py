"""The rooms of one chat instance: opened when a stream follows a session, closed when they have been empty a while."""

from __future__ import annotations

import asyncio
from typing import Final

from octopus.session.v1 import session_pb2

from mesh.bus import Bus, Subscription
from services.chat.background import Background
from services.chat.log_extent import LogExtent
from services.chat.replay import ReplayScheduler
from services.chat.room import Reading, Room, participation
from services.chat.tail import TailMemory

# Seconds for which a room and its tail are kept when nobody uses them: most clients that lost a stream reconnect soon.
_LINGER_S: Final = 30.0

# How often `sweep` is due, in seconds.
SWEEP_S: Final = _LINGER_S / 10


class Rooms:
    """Rooms by session, each subscribed to its session's live subject, and the memory that their tails share."""

    def __init__(
        self,
        bus: Bus,
        extent: LogExtent,
        background: Background,
        *,
        replay_page: int,
        resume_limit: int,
        tail_memory_bytes: int,
    ) -> None:
        self._bus = bus
        self._extent = extent
        self._background = background
        self._memory = TailMemory(tail_memory_bytes)
        self._reading = Reading(
            log=bus,
            extent=extent.get,
            memory=self._memory,
            replays=ReplayScheduler(),
            background=background,
            page=replay_page,
            resume_limit=resume_limit,
        )
        self._rooms: dict[tuple[str, int], Room] = {}
        self._subscriptions: dict[Room, Subscription] = {}
        # Since when a room has been empty.
        self._empty_since: dict[Room, float] = {}

    def get(self, tenant_id: str, session_id: int) -> Room | None:
        """Return the room of a session, None when there is none."""
        return self._rooms.get((tenant_id, session_id))

    def of(self, tenant_id: str, user_id: int) -> list[session_pb2.Session]:
        """Return the sessions, as their rooms know them, in which a person takes part and that have not ended."""
        return [
            room.session
            for room in self._rooms.values()
            if room.tenant_id == tenant_id and not room.over and participation(room.session).includes(user_id)
        ]

    def doubt(self) -> None:
        """Have every room read what it may have missed while the bus was unreachable."""
        self._extent.forget()
        for room in list(self._rooms.values()):
            room.doubt()

    async def sweep(self) -> None:
        """Close rooms that have been empty for a while, and drop tails that are not in use."""
        before = asyncio.get_running_loop().time() - _LINGER_S
        self._memory.expire(before)
        for room in [room for room, since in self._empty_since.items() if since <= before]:
            self._close(room)

    async def open(self, session: session_pb2.Session) -> Room:
        """Return the room of a session, subscribed to its live subject."""
        key = (session.tenant_id, session.id)
        while True:
            room = self._rooms.get(key)
            if room is None:
                break
            room.learn(session)
            await asyncio.wait([room.listening])
            # It could not be opened, or was closed in the meantime.
            if self._rooms.get(key) is room:
                return room
        room = self._rooms[key] = Room(session, self._reading, self.leave_empty)
        try:
            self._subscriptions[room] = await self._bus.subscribe(room.live_subject, room.hear)
        except BaseException:
            # Whoever waits for this room opens another one.
            del self._rooms[key]
            raise
        finally:
            room.listening.set_result(None)
        return room

    def keep(self, room: Room) -> None:
        """Keep a room that is about to be followed."""
        self._empty_since.pop(room, None)

    def leave_empty(self, room: Room) -> None:
        """Keep an empty room for a while, unless its session has ended."""
        if room.over:
            self._close(room)
        elif room in self._subscriptions:
            self._empty_since.setdefault(room, asyncio.get_running_loop().time())

    def _close(self, room: Room) -> None:
        self._empty_since.pop(room, None)
        if self._rooms.get((room.tenant_id, room.session_id)) is room:
            del self._rooms[room.tenant_id, room.session_id]
        room.stop()
        subscription = self._subscriptions.pop(room, None)
        if subscription is not None:
            self._background.spawn(subscription.unsubscribe(), name="leave room")
