"""Sessions and agents as rows in PostgreSQL."""

# ruff: noqa: S608  # the queries are made of the names of our own columns; values only ever travel as parameters

from __future__ import annotations

from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from services.session.domain import (
    SEATED,
    Agent,
    AgentStatus,
    AwayReason,
    EndReason,
    HandoffReason,
    Session,
    SessionState,
    Viewer,
)

# What changes when a session changes; `active_at` is bookkeeping and no part of it.
_CHANGING: Final = (
    "customer_id", "customer_name", "state", "version", "agent_id", "agent_name", "handoff_at", "handoff_reason",
    "offered_until", "accepted_at", "former_agents", "ended_at", "end_reason", "closes_at", "rate_until",
)  # fmt: skip
_FIXED: Final = ("id", "tenant_id", "channel", "locale", "opened_at", "previous_session_id")
_COLUMNS: Final = ", ".join((*_FIXED, *_CHANGING))

INSERT: Final = (
    f"INSERT INTO cs_session ({_COLUMNS}, active_at) VALUES ("
    + ", ".join(f"%({name})s" for name in (*_FIXED, *_CHANGING))
    + ", %(opened_at)s) ON CONFLICT (tenant_id, customer_id) WHERE state <> 5 DO NOTHING"
)
UPDATE: Final = (
    "UPDATE cs_session SET "
    + ", ".join(f"{name} = %({name})s" for name in _CHANGING)
    + ", active_at = clock_timestamp() WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND version = %(version)s - 1"
)
LOCK: Final = f"SELECT {_COLUMNS} FROM cs_session WHERE tenant_id = %(tenant)s AND {{condition}} ORDER BY id FOR UPDATE"
LIVE_SESSIONS: Final = f"""
    SELECT {_COLUMNS} FROM cs_session WHERE tenant_id = %(tenant)s
    AND state = ANY(%(states)s) ORDER BY handoff_at, id"""
# The place in the queue of the session s: how many asked no later.
_POSITION: Final = """
    (SELECT count(*) FROM cs_session w WHERE w.tenant_id = s.tenant_id AND w.state = 2
     AND (w.handoff_at, w.id) <= (s.handoff_at, s.id))"""
SELECT: Final = (
    f"SELECT {_COLUMNS}, CASE WHEN s.state = 2 THEN {_POSITION} ELSE 0 END AS queue_position"
    " FROM cs_session s WHERE s.tenant_id = %(tenant)s"
)
_OF_CUSTOMER: Final = "s.customer_id = %(user)s"
_OF_AGENT: Final = "s.agent_id = %(user)s OR s.state = 2 OR s.former_agents @> ARRAY[%(user)s]::bigint[]"
SELECT_AGENT: Final = """
    SELECT a.tenant_id, a.user_id, a.display_name, a.status, a.capacity, a.version,
           a.token_generation, a.last_assigned_at, a.away_reason, a.earlier_status, a.acted_at,
           (SELECT count(*) FROM cs_session s
            WHERE s.tenant_id = a.tenant_id AND s.agent_id = a.user_id AND s.state IN (3, 4, 6)) AS load
    FROM cs_agent a WHERE a.tenant_id = %(tenant)s"""
# Agents who are on duty or hold a session, in all shops, with their shop's rules.
AT_WORK: Final = f"""
    SELECT a.tenant_id, a.user_id, a.status, a.acted_at, clock_timestamp() - a.acted_at AS acted_ago,
           r.away_after_s, r.return_after_s
    FROM cs_agent a LEFT JOIN cs_absence_settings r ON r.tenant_id = a.tenant_id
    WHERE a.status <> 3 OR EXISTS (
        SELECT FROM cs_session s WHERE s.tenant_id = a.tenant_id AND s.agent_id = a.user_id
        AND s.state IN ({", ".join(str(int(state)) for state in SEATED)}))
    ORDER BY a.tenant_id, a.user_id"""
UPDATE_AGENT: Final = """
    UPDATE cs_agent SET display_name = %(display_name)s, status = %(status)s, capacity = %(capacity)s,
           version = %(version)s, token_generation = %(token_generation)s, last_assigned_at = %(last_assigned_at)s,
           away_reason = %(away_reason)s, earlier_status = %(earlier_status)s,
           acted_at = coalesce(%(acted_at)s, acted_at)
    WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s"""


def visible_to(viewer: Viewer) -> str:
    """Return `Viewer.sees` as a condition on the session s, of the person %(user)s."""
    if viewer.supervisor or viewer.service:
        return "TRUE"
    rules = [rule for rule, holds in ((_OF_CUSTOMER, viewer.shopper), (_OF_AGENT, viewer.agent)) if holds]
    return f"({' OR '.join(rules)})" if rules else "FALSE"


async def fetch(conn: AsyncConnection[Any], query: str, values: dict[str, object]) -> list[DictRow]:
    """Run a query made of the constants above; values are always parameters."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


def session_of(row: DictRow) -> Session:
    """Read a row with _COLUMNS and perhaps `queue_position`."""
    return Session(
        **{
            **row,
            "state": SessionState(row["state"]),
            "former_agents": tuple(row["former_agents"]),
            "handoff_reason": HandoffReason(row["handoff_reason"]),
            "end_reason": EndReason(row["end_reason"]),
        }
    )


def agent_of(row: DictRow) -> Agent:
    """Read a row of SELECT_AGENT."""
    return Agent(
        **{
            **row,
            "status": AgentStatus(row["status"]),
            "away_reason": AwayReason(row["away_reason"]),
            "earlier_status": AgentStatus(row["earlier_status"]) if row["earlier_status"] else None,
        }
    )


def session_values(session: Session) -> dict[str, object]:
    """Return the parameters of INSERT and UPDATE."""
    values = {name: getattr(session, name) for name in (*_FIXED, *_CHANGING)}
    values["former_agents"] = list(session.former_agents)
    return {name: int(value) if isinstance(value, int) else value for name, value in values.items()}


def agent_values(agent: Agent) -> dict[str, object]:
    """Return the parameters of UPDATE_AGENT."""
    return {
        "tenant_id": agent.tenant_id,
        "user_id": agent.user_id,
        "display_name": agent.display_name,
        "status": int(agent.status),
        "capacity": agent.capacity,
        "version": agent.version,
        "token_generation": agent.token_generation,
        "last_assigned_at": agent.last_assigned_at,
        "away_reason": int(agent.away_reason),
        "earlier_status": int(agent.earlier_status or 0),
        "acted_at": agent.acted_at,
    }
