"""Sessions and agents in PostgreSQL: the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from mesh.stores.postgres import Database
from services.session.domain import LIVE, AbsenceRules, Agent, AgentStatus, Session, SessionState, Viewer
from services.session.events import Announcer
from services.session.rows import (
    AT_WORK,
    LIVE_SESSIONS,
    SELECT,
    SELECT_AGENT,
    agent_of,
    fetch,
    session_of,
    visible_to,
)
from services.session.unit_of_work import UnitOfWork


class Live(NamedTuple):
    """The rows from which a shop's live queue is built; waiting sessions in their order."""

    sessions: list[Session]
    agents: list[Agent]


class Lapsed(NamedTuple):
    """An agent with a lapsed offer."""

    tenant_id: str
    agent_id: int


class AtWork(NamedTuple):
    """An agent who is on duty or holds a session; `acted_ago` is how long ago the agent last said a status."""

    tenant_id: str
    agent_id: int
    away: bool
    acted_at: datetime
    acted_ago: timedelta
    rules: AbsenceRules


class Idle(NamedTuple):
    """An open session that may be idle."""

    tenant_id: str
    session_id: int


class Store:
    """Queries, and transactions that change rows. Every query names its shop."""

    def __init__(self, db: Database, announcer: Announcer) -> None:
        self._db = db
        self._announcer = announcer

    @asynccontextmanager
    async def unit_of_work(self, tenant_id: str) -> AsyncIterator[UnitOfWork]:
        """Open a transaction; it is committed when the block ends and rolled back when it raises."""
        async with self._db.tenant(tenant_id) as conn:
            found = await fetch(conn, "SELECT clock_timestamp() AS now", {})
            yield UnitOfWork(conn, tenant_id, found[0]["now"], self._announcer)

    @asynccontextmanager
    async def alone(self, tenant_id: str) -> AsyncIterator[Callable[[], Awaitable[Live]]]:
        """Hold the shop's advisory lock until the block ends; yield a function that reads the live rows."""
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('session ' || %s, 0))", (tenant_id,))
            yield lambda: _live(conn, tenant_id)

    async def session(self, tenant_id: str, session_id: int) -> Session | None:
        """Return one session with its place in the queue."""
        async with self._db.tenant(tenant_id) as conn:
            found = await fetch(conn, f"{SELECT} AND s.id = %(id)s", {"tenant": tenant_id, "id": session_id})
        return session_of(found[0]) if found else None

    async def sessions(self, tenant_id: str, session_ids: Sequence[int]) -> list[Session]:
        """Return those of the sessions that exist, in any order."""
        if not session_ids:
            return []
        return await self._sessions(
            f"{SELECT} AND s.id = ANY(%(ids)s)", {"tenant": tenant_id, "ids": list(session_ids)}
        )

    async def open_of(self, tenant_id: str, user_id: int, *, limit: int) -> list[Session]:
        """Return the open sessions whose customer or agent the person is, oldest first."""
        return await self._sessions(
            f"{SELECT} AND s.state <> 5"
            " AND (s.customer_id = %(user)s OR (s.agent_id = %(user)s AND s.state IN (3, 4, 6)))"
            " ORDER BY s.id LIMIT %(limit)s",
            {"tenant": tenant_id, "user": user_id, "limit": limit},
        )

    async def page(
        self, viewer: Viewer, *, before_id: int, limit: int, states: Sequence[SessionState], customer_id: int
    ) -> list[Session]:
        """Return sessions that the viewer may see, newest first, below `before_id` (0: from the newest).

        `customer_id` 0 and no `states` mean all.
        """
        return await self._sessions(
            SELECT
            + f" AND {visible_to(viewer)}"
            + (" AND s.id < %(before)s" if before_id else "")
            + (" AND s.state = ANY(%(states)s)" if states else "")
            + (" AND s.customer_id = %(customer)s" if customer_id else "")
            + " ORDER BY s.id DESC LIMIT %(limit)s",
            {
                "tenant": viewer.tenant_id,
                "user": viewer.user_id,
                "before": before_id,
                "states": [int(state) for state in states],
                "customer": customer_id,
                "limit": limit,
            },
        )

    async def live(self, tenant_id: str) -> Live:
        """Return the rows from which the live queue is built."""
        async with self._db.tenant(tenant_id) as conn:
            return await _live(conn, tenant_id)

    async def agent(self, tenant_id: str, user_id: int) -> Agent | None:
        """Return one agent with the load."""
        async with self._db.tenant(tenant_id) as conn:
            found = await fetch(
                conn, f"{SELECT_AGENT} AND a.user_id = %(user)s", {"tenant": tenant_id, "user": user_id}
            )
        return agent_of(found[0]) if found else None

    async def agents(self, tenant_id: str, *, after: tuple[str, int], limit: int) -> list[Agent]:
        """Return agents ordered by name, then id, after the given one."""
        async with self._db.tenant(tenant_id) as conn:
            rows = await fetch(
                conn,
                f"{SELECT_AGENT} AND (a.display_name, a.user_id) > (%(name)s, %(id)s)"
                " ORDER BY a.display_name, a.user_id LIMIT %(limit)s",
                {"tenant": tenant_id, "name": after[0], "id": after[1], "limit": limit},
            )
        return [agent_of(row) for row in rows]

    async def count_waiting(self, tenant_id: str) -> int:
        """Return how many sessions of the shop wait."""
        async with self._db.tenant(tenant_id) as conn:
            found = await fetch(
                conn,
                "SELECT count(*) AS waiting FROM cs_session WHERE tenant_id = %(tenant)s AND state = 2",
                {"tenant": tenant_id},
            )
        return int(found[0]["waiting"])

    async def heard(self, tenant_id: str, session_id: int, at: datetime) -> None:
        """Record the time of a session's last message."""
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute(
                "UPDATE cs_session SET active_at = greatest(active_at, %s) WHERE tenant_id = %s AND id = %s",
                (at, tenant_id, session_id),
            )

    async def live_tenants(self) -> set[str]:
        """Return the shops with sessions that wait or are held by agents, or with agents on duty."""
        rows = await self._everywhere(
            "SELECT DISTINCT tenant_id FROM cs_session WHERE state IN (2, 3, 4, 6)"
            " UNION SELECT DISTINCT tenant_id FROM cs_agent WHERE status <> 3",
            {},
        )
        return {row["tenant_id"] for row in rows}

    async def lapsed(self, *, limit: int) -> list[Lapsed]:
        """Return agents with lapsed offers."""
        rows = await self._everywhere(
            "SELECT DISTINCT tenant_id, agent_id FROM (SELECT tenant_id, agent_id FROM cs_session"
            " WHERE state = 3 AND offered_until <= clock_timestamp() ORDER BY offered_until LIMIT %(limit)s) lapsed",
            {"limit": limit},
        )
        return [Lapsed(**row) for row in rows]

    async def at_work(self) -> list[AtWork]:
        """Return the agents of all shops who are on duty or hold a session, shop by shop."""
        return [
            AtWork(
                row["tenant_id"],
                row["user_id"],
                AgentStatus(row["status"]) is AgentStatus.AWAY,
                row["acted_at"],
                row["acted_ago"],
                _rules_of(row),
            )
            for row in await self._everywhere(AT_WORK, {})
        ]

    async def absence_rules(self, tenant_id: str) -> AbsenceRules:
        """Return how long agents of the shop may be without a connection."""
        async with self._db.tenant(tenant_id) as conn:
            found = await fetch(
                conn,
                "SELECT away_after_s, return_after_s FROM cs_absence_settings WHERE tenant_id = %(tenant)s",
                {"tenant": tenant_id},
            )
        return _rules_of(found[0]) if found else AbsenceRules()

    async def set_absence_rules(self, tenant_id: str, rules: AbsenceRules) -> None:
        """Change how long agents of the shop may be without a connection, in whole seconds."""
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute(
                "INSERT INTO cs_absence_settings (tenant_id, away_after_s, return_after_s) VALUES (%s, %s, %s)"
                " ON CONFLICT (tenant_id) DO UPDATE"
                " SET away_after_s = excluded.away_after_s, return_after_s = excluded.return_after_s",
                (tenant_id, int(rules.away_after.total_seconds()), int(rules.return_after.total_seconds())),
            )

    async def idle(self, silent: timedelta, *, limit: int) -> list[Idle]:
        """Return open sessions without a known message for this long."""
        rows = await self._everywhere(
            "SELECT tenant_id, id AS session_id FROM cs_session"
            " WHERE state <> 5 AND active_at < clock_timestamp() - %(silent)s ORDER BY active_at LIMIT %(limit)s",
            {"silent": silent, "limit": limit},
        )
        return [Idle(**row) for row in rows]

    async def _sessions(self, query: str, values: dict[str, object]) -> list[Session]:
        async with self._db.tenant(str(values["tenant"])) as conn:
            return [session_of(row) for row in await fetch(conn, query, values)]

    async def _everywhere(self, query: str, values: dict[str, object]) -> list[DictRow]:
        async with self._db.every_tenant() as conn:
            return await fetch(conn, query, values)


def _rules_of(row: DictRow) -> AbsenceRules:
    """Return the rules in a row; the defaults where a shop has none of its own."""
    if row["away_after_s"] is None:
        return AbsenceRules()
    return AbsenceRules(timedelta(seconds=row["away_after_s"]), timedelta(seconds=row["return_after_s"]))


async def _live(conn: AsyncConnection[Any], tenant_id: str) -> Live:
    sessions = await fetch(conn, LIVE_SESSIONS, {"tenant": tenant_id, "states": [int(state) for state in LIVE]})
    agents = await fetch(conn, SELECT_AGENT, {"tenant": tenant_id})
    return Live([session_of(row) for row in sessions], [agent_of(row) for row in agents])
