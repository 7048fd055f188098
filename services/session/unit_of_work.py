"""One transaction that changes sessions and agents, together with its events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from services.session.domain import (
    DEFAULT_CAPACITY,
    SEATED,
    Agent,
    AgentStatus,
    NotFound,
    RequeueReason,
    Satisfaction,
    Session,
    SessionState,
    Settings,
    Turn,
    VersionConflict,
)
from services.session.events import Announcer, SessionChanged
from services.session.rows import (
    INSERT,
    LOCK,
    SELECT,
    SELECT_AGENT,
    UPDATE,
    UPDATE_AGENT,
    agent_of,
    agent_values,
    fetch,
    session_of,
    session_values,
)
from services.session.settings import settings_of
from services.session.turns import turn_of, warned


class UnitOfWork:
    """One transaction of one shop. `now` is the database's clock at its start.

    Rows are locked before they are read, agents before sessions and sessions by id, so that transactions do not
    deadlock. The events of every write go to the outbox in the same transaction.
    """

    def __init__(self, conn: AsyncConnection[Any], tenant_id: str, now: datetime, announcer: Announcer) -> None:
        self.tenant_id = tenant_id
        self.now = now
        # For what else is written in the same transaction.
        self.conn = conn
        self._announcer = announcer

    async def session(self, session_id: int) -> Session | None:
        """Lock and return a session, without its place in the queue."""
        found = await self._lock("id = %(id)s", id=session_id)
        return found[0] if found else None

    async def offers_to(self, agent_id: int) -> list[Session]:
        """Lock and return the sessions that an agent has not accepted yet."""
        return await self._lock("agent_id = %(agent)s AND state = 3", agent=agent_id)

    async def seats_of(self, agent_id: int) -> list[Session]:
        """Lock and return the sessions that an agent holds, accepted or not."""
        return await self._lock(
            "agent_id = %(agent)s AND state = ANY(%(seated)s)", agent=agent_id, seated=list(map(int, SEATED))
        )

    async def of_visitor(self, visitor_id: int, *, and_open_of: int) -> list[Session]:
        """Lock and return all sessions of a visitor, and the open one of a customer."""
        return await self._lock(
            "(customer_id = %(visitor)s OR (customer_id = %(customer)s AND state <> 5))",
            visitor=visitor_id,
            customer=and_open_of,
        )

    async def last_of(self, customer_id: int) -> Session | None:
        """Return the last session of a customer that has ended, without locking it."""
        found = await fetch(
            self.conn,
            f"{SELECT} AND s.customer_id = %(customer)s AND s.state = 5 ORDER BY s.id DESC LIMIT 1",
            {"tenant": self.tenant_id, "customer": customer_id},
        )
        return session_of(found[0]) if found else None

    async def add(self, session: Session) -> bool:
        """Add a new session; False when the customer has an open one."""
        cursor = await self.conn.execute(INSERT.encode(), session_values(session))
        if cursor.rowcount != 1:
            return False
        await self._announcer.session(self.conn, None, session, SessionChanged.OPENED, self.now)
        return True

    async def settings(self) -> Settings:
        """Return the shop's settings."""
        return await settings_of(self.conn, self.tenant_id)

    async def turn(self, session_id: int) -> Turn:
        """Lock and return who wrote last in a session; the session is locked first."""
        return await turn_of(self.conn, self.tenant_id, session_id, lock=True)

    async def warned(self, session_id: int, seq: int) -> None:
        """Note the last message before the reminder."""
        await warned(self.conn, self.tenant_id, session_id, seq)

    async def save(
        self,
        before: Session,
        after: Session,
        what: SessionChanged,
        *,
        reason: RequeueReason = RequeueReason.NONE,
        satisfaction: Satisfaction | None = None,
    ) -> Session:
        """Write the next version of a session, if there is one, and return it with its place in the queue.

        `reason` says why it goes back to the queue. Raises `VersionConflict` when the session is not as it was.
        """
        if after is before:
            return await self._placed(before)
        cursor = await self.conn.execute(UPDATE.encode(), session_values(after))
        if cursor.rowcount != 1:
            raise VersionConflict("the session was changed in the meantime; read it again")
        after = await self._placed(after)
        await self._announcer.session(
            self.conn, before, after, what, self.now, reason=reason, satisfaction=satisfaction
        )
        return after

    async def agent(self, user_id: int) -> Agent | None:
        """Lock an agent and return it with its load, which can only fall until the transaction ends."""
        await self.conn.execute(
            "SELECT 1 FROM cs_agent WHERE tenant_id = %s AND user_id = %s FOR UPDATE", (self.tenant_id, user_id)
        )
        # A separate statement sees what was committed while the one above waited for the lock.
        found = await fetch(
            self.conn, f"{SELECT_AGENT} AND a.user_id = %(user)s", {"tenant": self.tenant_id, "user": user_id}
        )
        return agent_of(found[0]) if found else None

    async def agent_or_new(self, user_id: int, display_name: str) -> Agent:
        """Lock an agent; create one with the status away when there is none."""
        await self.conn.execute(
            "INSERT INTO cs_agent (tenant_id, user_id, display_name, status, capacity, version)"
            " VALUES (%s, %s, %s, %s, %s, 0) ON CONFLICT DO NOTHING",
            (self.tenant_id, user_id, display_name, int(AgentStatus.AWAY), DEFAULT_CAPACITY),
        )
        agent = await self.agent(user_id)
        if agent is None:
            raise NotFound("there is no such agent")
        return agent

    async def save_agent(self, before: Agent, after: Agent) -> None:
        """Write an agent that was locked before."""
        if after is before:
            return
        await self.conn.execute(UPDATE_AGENT, agent_values(after))
        # The time of an agent's last assignment is internal and has no event.
        if after.version != before.version:
            await self._announcer.agent(self.conn, after, self.now)

    async def _placed(self, session: Session) -> Session:
        if session.state is not SessionState.WAITING:
            return session
        found = await fetch(
            self.conn,
            f"{SELECT} AND s.id = %(id)s",
            {"tenant": self.tenant_id, "id": session.id},
        )
        return session_of(found[0])

    async def _lock(self, condition: str, **values: object) -> list[Session]:
        rows = await fetch(self.conn, LOCK.format(condition=condition), {"tenant": self.tenant_id, **values})
        return [session_of(row) for row in rows]
