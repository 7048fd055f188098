"""Events of users, published through the outbox as `event.user.<tenant>.<user id>`; and the session events consumed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Protocol

from octopus.session.v1.session_events_pb2 import SessionEvent
from octopus.user.v1 import user_events_pb2 as pb

from mesh.bus import Bus, Delivery
from mesh.bus.ids import IdSource
from mesh.bus.outbox import Outbox
from mesh.bus.streams import EVENT
from mesh.rpc.timestamps import to_wire
from mesh.stores.postgres import Connection
from services.user import wire
from services.user.domain import LogOutCause, User


class UserEvents:
    """Add events to the transaction that changes the user. Telephone numbers in them are masked."""

    def __init__(self, *, outbox: Outbox, ids: IdSource, clock: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._ids = ids
        self._clock = clock

    async def created(self, conn: Connection, user: User) -> None:
        """Announce a new user."""
        await self._add(conn, user, pb.UserEvent(created=pb.UserCreated()))

    async def updated(self, conn: Connection, user: User) -> None:
        """Announce changed fields or labels; `user` is how it is now."""
        await self._add(conn, user, pb.UserEvent(updated=pb.UserUpdated()))

    async def merged(self, conn: Connection, customer: User, visitor_id: int) -> None:
        """Announce that a visitor became part of the customer."""
        merged = pb.UserMerged(visitor_id=visitor_id, customer_id=customer.id)
        await self._add(conn, customer, pb.UserEvent(merged=merged))

    async def logged_out(self, conn: Connection, user: User, cause: LogOutCause, generation: int) -> None:
        """Publish that every token of the user was revoked."""
        change = pb.UserLoggedOut(cause=pb.LogOutCause.ValueType(int(cause)), generation=generation)
        await self._add(conn, user, pb.UserEvent(logged_out=change))

    async def _add(self, conn: Connection, user: User, event: pb.UserEvent) -> None:
        event.event_id = self._ids.next()
        event.occurred_at.CopyFrom(to_wire(self._clock()))
        event.user.CopyFrom(wire.user(user))
        await self._outbox.add(conn, f"event.user.{user.tenant_id}.{user.id}", event, message_id=str(event.event_id))


class Conversations(Protocol):
    """The port to what is done when a user begins a conversation."""

    async def spoke(self, tenant_id: str, user_id: int) -> None:
        """Keep a visitor: there is a conversation now."""


class SessionEvents:
    """Consume `event.session.<tenant>.<session>` to note which visitors began a conversation. Idempotent."""

    SUBJECTS: ClassVar = ("event.session.*.*",)

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def run(self, bus: Bus) -> None:
        """Consume until cancelled."""
        await bus.consume(
            EVENT,
            "user",
            self.SUBJECTS,
            SessionEvent,
            self.handle,
            wanted=lambda event: event.HasField("opened"),
        )

    async def handle(self, delivery: Delivery[SessionEvent]) -> None:
        """Note whose session was opened."""
        session = delivery.message.session
        await self._conversations.spoke(session.tenant_id, session.customer_id)
