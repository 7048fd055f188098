"""Who wrote last in each session, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection

from mesh.stores.postgres import Database
from services.session.domain import Settings, Turn
from services.session.rows import fetch

# Taking a turn in again, or an older one, changes nothing.
_TAKE_IN: Final = """
    INSERT INTO cs_session_turn AS t (tenant_id, session_id, customer_seq, agent_seq, agent_at)
    SELECT %(tenant)s, heard.* FROM
        unnest(%(sessions)s::bigint[], %(customers)s::bigint[], %(agents)s::bigint[], %(times)s::timestamptz[]) heard
    ON CONFLICT (tenant_id, session_id) DO UPDATE SET
        customer_seq = greatest(t.customer_seq, excluded.customer_seq),
        agent_at = CASE WHEN excluded.agent_seq > t.agent_seq THEN excluded.agent_at ELSE t.agent_at END,
        agent_seq = greatest(t.agent_seq, excluded.agent_seq)
    WHERE excluded.customer_seq > t.customer_seq OR excluded.agent_seq > t.agent_seq"""
_TURN: Final = """
    SELECT customer_seq, agent_seq, agent_at, warned_seq FROM cs_session_turn
    WHERE tenant_id = %(tenant)s AND session_id = %(id)s"""
_ANSWERED: Final = """
    SELECT s.id FROM cs_session s JOIN cs_session_turn t ON t.tenant_id = s.tenant_id AND t.session_id = s.id
    WHERE s.tenant_id = %(tenant)s AND s.id = ANY(%(sessions)s) AND s.state = 6
    AND greatest(t.customer_seq, t.agent_seq) > t.warned_seq"""
# The shortest time of any shop bounds what is looked at; the shop's own decides.
_SILENT: Final = """
    SELECT t.tenant_id, t.session_id FROM cs_session_turn t
    JOIN cs_session s ON s.tenant_id = t.tenant_id AND s.id = t.session_id
    LEFT JOIN cs_session_settings g ON g.tenant_id = t.tenant_id
    WHERE t.agent_seq > t.customer_seq AND s.state = 4 AND t.agent_at >= s.accepted_at
    AND t.agent_at <= clock_timestamp() - (
        SELECT least(min(remind_after), %(remind_after)s) FROM cs_session_settings WHERE remind_after > '0')
    AND coalesce(g.remind_after, %(remind_after)s) > '0'
    AND t.agent_at <= clock_timestamp() - coalesce(g.remind_after, %(remind_after)s)
    ORDER BY t.agent_at LIMIT %(limit)s"""
_OVERDUE: Final = """
    SELECT tenant_id, id AS session_id FROM cs_session WHERE state = 6 AND closes_at <= clock_timestamp()
    ORDER BY closes_at LIMIT %(limit)s"""


class Silent(NamedTuple):
    """A session in which something may be due."""

    tenant_id: str
    session_id: int


class Turns:
    """Takes in who wrote, and finds the silent ones."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def take_in(self, tenant_id: str, heard: Mapping[int, Turn]) -> list[int]:
        """Take in who wrote, by sessions, and return those in which somebody has written since the reminder."""
        order = sorted(heard)
        values: dict[str, object] = {
            "tenant": tenant_id,
            "sessions": order,
            "customers": [heard[session].customer_seq for session in order],
            "agents": [heard[session].agent_seq for session in order],
            "times": [heard[session].agent_at for session in order],
        }
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute(_TAKE_IN, values)
            return [row["id"] for row in await fetch(conn, _ANSWERED, values)]

    async def silent(self, *, limit: int) -> list[Silent]:
        """Return sessions whose customer is to be reminded, the longest silence first."""
        return await self._find(_SILENT, {"limit": limit, "remind_after": Settings().remind_after})

    async def overdue(self, *, limit: int) -> list[Silent]:
        """Return sessions that are to end because the reminder was not answered either."""
        return await self._find(_OVERDUE, {"limit": limit})

    async def of(self, tenant_id: str, session_id: int) -> Turn:
        """Return who wrote last in a session."""
        async with self._db.tenant(tenant_id) as conn:
            return await turn_of(conn, tenant_id, session_id)

    async def drop(self, tenant_id: str, session_ids: list[int]) -> None:
        """Forget who wrote last in sessions that have ended."""
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute(
                "DELETE FROM cs_session_turn WHERE tenant_id = %s AND session_id = ANY(%s)", (tenant_id, session_ids)
            )

    async def _find(self, query: str, values: dict[str, object]) -> list[Silent]:
        async with self._db.every_tenant() as conn:
            return [Silent(**row) for row in await fetch(conn, query, values)]


async def turn_of(conn: AsyncConnection[Any], tenant_id: str, session_id: int, *, lock: bool = False) -> Turn:
    """Return who wrote last in a session; with `lock`, nothing else is taken in until the transaction ends."""
    query = _TURN + " FOR UPDATE" if lock else _TURN
    found = await fetch(conn, query, {"tenant": tenant_id, "id": session_id})
    return Turn(**found[0]) if found else Turn()


async def warned(conn: AsyncConnection[Any], tenant_id: str, session_id: int, seq: int) -> None:
    """Note the last message before the reminder."""
    await conn.execute(
        "UPDATE cs_session_turn SET warned_seq = %s WHERE tenant_id = %s AND session_id = %s",
        (seq, tenant_id, session_id),
    )
