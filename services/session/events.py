"""Events that the service publishes and consumes.

Published: built here, written to the outbox in the transaction of the change.

| what | subject | read by |
| --- | --- | --- |
| SessionEvent, at every change | `event.session.<tenant>.<session>` | services |
| LogEntry with a SessionChange, at changes shown in the conversation | `log.<tenant>.<session>` | participants |
| SessionNotice, for each person concerned | `notice.<tenant>.<user>` | their devices |
| AgentEvent, when an agent changes | `event.agent.<tenant>.<user>` | services |
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Protocol

from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.options.v1.options_pb2 import ROLE_AGENT
from octopus.session.v1 import session_events_pb2 as events
from octopus.session.v1 import session_pb2
from octopus.user.v1.user_events_pb2 import UserEvent
from octopus.user.v1.user_pb2 import USER_KIND_STAFF
from psycopg import AsyncConnection

from mesh.bus import Bus, Delivery
from mesh.bus.ids import IdSource
from mesh.bus.outbox import Outbox
from mesh.bus.streams import EVENT
from mesh.rpc.timestamps import to_wire
from services.session import wire, wording
from services.session.domain import Agent, RequeueReason, Satisfaction, Session, SessionState


class SessionChanged(Enum):
    """What happened to a session; the values are the fields of `SessionEvent.change`."""

    OPENED = "opened"
    HANDOFF_REQUESTED = "handoff_requested"
    ASSIGNED = "assigned"
    REQUEUED = "requeued"
    ACCEPTED = "accepted"
    ENDED = "ended"
    CUSTOMER_CHANGED = "customer_changed"
    WARNED = "warned"
    RESUMED = "resumed"
    RATED = "rated"


# Changes that are not shown in the conversation.
_UNSEEN = (SessionChanged.OPENED, SessionChanged.CUSTOMER_CHANGED, SessionChanged.RATED)


class Announcer:
    """Writes events to the outbox. The session's row is locked, so they leave in the order of its versions."""

    def __init__(self, outbox: Outbox, ids: IdSource) -> None:
        self._outbox = outbox
        self._ids = ids

    async def session(
        self,
        conn: AsyncConnection[Any],
        before: Session | None,
        after: Session,
        what: SessionChanged,
        now: datetime,
        *,
        reason: RequeueReason = RequeueReason.NONE,
        satisfaction: Satisfaction | None = None,
    ) -> None:
        """Write the events of a session's change from `before` to `after`; `reason` is that of a requeue."""
        event_id = self._ids.next()
        # What the customer said in words is for the people concerned alone.
        state = wire.session(after, satisfaction=satisfaction and replace(satisfaction, comment=""))
        await self._outbox.add(
            conn,
            f"event.session.{after.tenant_id}.{after.id}",
            session_event(event_id, before, state, what, now, reason=reason),
            str(event_id),
        )
        if what not in _UNSEEN:
            await self._outbox.add(
                conn,
                f"log.{after.tenant_id}.{after.id}",
                log_entry(event_id, before, state, now, reason=reason),
                str(event_id),
            )
        concerned = {after.customer_id, after.agent_id}
        if before is not None:
            concerned |= {before.customer_id, before.agent_id}
        for user_id in sorted(concerned - {0}):
            await self._outbox.add(
                conn,
                f"notice.{after.tenant_id}.{user_id}",
                events.SessionNotice(session=wire.session(after, satisfaction=satisfaction)),
                f"{event_id}.{user_id}",
            )

    async def agent(self, conn: AsyncConnection[Any], agent: Agent, now: datetime) -> None:
        """Write the event of an agent's change."""
        event_id = self._ids.next()
        event = events.AgentEvent(event_id=event_id, occurred_at=to_wire(now), agent=wire.agent(agent))
        await self._outbox.add(conn, f"event.agent.{agent.tenant_id}.{agent.user_id}", event, str(event_id))


def session_event(
    event_id: int,
    before: Session | None,
    state: session_pb2.Session,
    what: SessionChanged,
    now: datetime,
    *,
    reason: RequeueReason = RequeueReason.NONE,
) -> events.SessionEvent:
    """Build the event of a session's change."""
    event = events.SessionEvent(event_id=event_id, occurred_at=to_wire(now), session=state)
    change = getattr(event, what.value)
    # A message without fields is set only explicitly.
    change.SetInParent()
    if what is SessionChanged.REQUEUED and before is not None:
        event.requeued.agent_id = before.agent_id
        event.requeued.reason = session_pb2.RequeueReason.ValueType(reason)
    if what is SessionChanged.CUSTOMER_CHANGED and before is not None:
        event.customer_changed.visitor_id = before.customer_id
    return event


def log_entry(
    event_id: int,
    before: Session | None,
    state: session_pb2.Session,
    now: datetime,
    *,
    reason: RequeueReason = RequeueReason.NONE,
) -> chat_events_pb2.LogEntry:
    """Build the log entry of a session's change; the event's id is the message's."""
    previous = session_pb2.SESSION_STATE_UNSPECIFIED if before is None else before.state
    # An offer that was never accepted is no agent that the customer has lost.
    lost = reason is RequeueReason.AGENT_DISCONNECTED and previous != SessionState.ASSIGNED
    return chat_events_pb2.LogEntry(
        message=message_pb2.Message(
            id=event_id,
            session_id=state.id,
            sender=message_pb2.Sender(kind=message_pb2.SENDER_KIND_SYSTEM),
            sent_at=to_wire(now),
            content=message_pb2.Content(
                fallback_text=wording.fallback(SessionState(state.state), state.locale, lost=lost),
                change=message_pb2.SessionChange(
                    session=state,
                    previous_state=session_pb2.SessionState.ValueType(previous),
                    requeue_reason=session_pb2.RequeueReason.ValueType(reason),
                ),
            ),
        ),
        tenant_id=state.tenant_id,
        customer_id=state.customer_id,
        session_state=state.state,
    )


class Sessions(Protocol):
    """Consumer of what happens to shoppers."""

    async def merge(self, tenant_id: str, *, visitor_id: int, customer_id: int, customer_name: str) -> None:
        """Make the visitor's sessions the customer's."""


class Agents(Protocol):
    """Consumer of what happens to members of staff."""

    async def staff_changed(self, tenant_id: str, user_id: int, *, display_name: str, capacity: int) -> None:
        """Take over another name or capacity."""

    async def logged_out(self, tenant_id: str, user_id: int, *, display_name: str, token_generation: int) -> None:
        """Take an agent off duty whose tokens older than this generation were revoked."""


class UserEvents:
    """Consumes `event.user.<tenant>.<user>`. Handling an event again changes nothing."""

    SUBJECTS: ClassVar = ("event.user.>",)

    def __init__(self, sessions: Sessions, agents: Agents) -> None:
        self._sessions = sessions
        self._agents = agents

    async def run(self, bus: Bus) -> None:
        """Consume until cancelled; the events of one user in order."""
        await bus.consume(
            EVENT,
            "session",
            self.SUBJECTS,
            UserEvent,
            self.handle,
            key=lambda event: (event.user.tenant_id, event.user.id),
        )

    async def handle(self, delivery: Delivery[UserEvent]) -> None:
        """Handle one event."""
        event = delivery.message
        user = event.user
        match event.WhichOneof("change"):
            case "merged":
                await self._sessions.merge(
                    user.tenant_id,
                    visitor_id=event.merged.visitor_id,
                    customer_id=event.merged.customer_id,
                    customer_name=user.display_name,
                )
            case "updated" if user.kind == USER_KIND_STAFF:
                await self._agents.staff_changed(
                    user.tenant_id, user.id, display_name=user.display_name, capacity=user.capacity
                )
            # Disabled, logged out everywhere, or with a new password: the event says so in this way for all of them.
            case "logged_out" if ROLE_AGENT in user.roles:
                await self._agents.logged_out(
                    user.tenant_id,
                    user.id,
                    display_name=user.display_name,
                    token_generation=event.logged_out.generation,
                )
            case _:
                # Other changes of users do not touch sessions.
                pass
