"""What stays of sessions, in PostgreSQL: summaries, and how customers were served. Their words are sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection

from mesh.stores.keyring import Keyring
from mesh.stores.postgres import Database
from services.session.domain import Satisfaction, Summary
from services.session.rows import fetch

_SUMMARY: Final = """
    INSERT INTO cs_session_summary
        (tenant_id, session_id, opener, topic, customer_messages, agent_messages, bot_messages, waited, first_response,
         handled, agent_ids)
    VALUES (%(tenant)s, %(id)s, %(opener)s, %(topic)s, %(customer_messages)s, %(agent_messages)s, %(bot_messages)s,
            %(waited)s, %(first_response)s, %(handled)s, %(agent_ids)s)
    ON CONFLICT (tenant_id, session_id) DO UPDATE SET
        opener = excluded.opener, topic = excluded.topic, customer_messages = excluded.customer_messages,
        agent_messages = excluded.agent_messages, bot_messages = excluded.bot_messages, waited = excluded.waited,
        first_response = excluded.first_response, handled = excluded.handled, agent_ids = excluded.agent_ids"""
_STAYS: Final = """
    SELECT wanted.id, r.score, r.comment, r.rated_at,
           s.topic, s.opener, s.customer_messages, s.agent_messages, s.bot_messages, s.waited, s.first_response,
           s.handled, s.agent_ids
    FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    LEFT JOIN cs_session_satisfaction r ON r.tenant_id = %(tenant)s AND r.session_id = wanted.id
    LEFT JOIN cs_session_summary s ON s.tenant_id = %(tenant)s AND s.session_id = wanted.id"""


class Remains(NamedTuple):
    """What there is of a session."""

    satisfaction: Satisfaction | None = None
    summary: Summary | None = None


class Closing:
    """Stores and reads what stays of sessions."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring

    async def of(self, tenant_id: str, session_ids: Sequence[int]) -> dict[int, Remains]:
        """Return what there is of each session."""
        if not session_ids:
            return {}
        async with self._db.tenant(tenant_id) as conn:
            rows = await fetch(conn, _STAYS, {"tenant": tenant_id, "ids": list(session_ids)})
        remains = {}
        for row in rows:
            session_id = row.pop("id")
            score, comment, rated_at = row.pop("score"), row.pop("comment"), row.pop("rated_at")
            opener = self._open(row.pop("opener"), _opener_at(tenant_id, session_id))
            remains[session_id] = Remains(
                None
                if score is None
                else Satisfaction(
                    score=score, comment=self._open(comment, _comment_at(tenant_id, session_id)), rated_at=rated_at
                ),
                None
                if row["topic"] is None
                else Summary(opener=opener, **{**row, "agent_ids": tuple(row["agent_ids"])}),
            )
        return remains

    async def summarize(self, tenant_id: str, session_id: int, summary: Summary) -> None:
        """Store a session's summary; once more replaces it."""
        values: dict[str, object] = {
            "tenant": tenant_id,
            "id": session_id,
            "opener": self._seal(summary.opener, _opener_at(tenant_id, session_id)),
            "topic": summary.topic,
            "customer_messages": summary.customer_messages,
            "agent_messages": summary.agent_messages,
            "bot_messages": summary.bot_messages,
            "waited": summary.waited,
            "first_response": summary.first_response,
            "handled": summary.handled,
            "agent_ids": list(summary.agent_ids),
        }
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute(_SUMMARY, values)

    async def satisfaction(self, conn: AsyncConnection[Any], tenant_id: str, session_id: int) -> Satisfaction | None:
        """Return how a customer was served, in the caller's transaction; None when they have not said."""
        found = await fetch(
            conn,
            "SELECT score, comment, rated_at FROM cs_session_satisfaction"
            " WHERE tenant_id = %(tenant)s AND session_id = %(id)s",
            {"tenant": tenant_id, "id": session_id},
        )
        if not found:
            return None
        row = found[0]
        comment = self._open(row["comment"], _comment_at(tenant_id, session_id))
        return Satisfaction(score=row["score"], comment=comment, rated_at=row["rated_at"])

    async def rate(
        self, conn: AsyncConnection[Any], tenant_id: str, session_id: int, satisfaction: Satisfaction
    ) -> None:
        """Store how a customer was served, in the caller's transaction, which has locked the session."""
        await conn.execute(
            "INSERT INTO cs_session_satisfaction (tenant_id, session_id, score, comment, rated_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            (
                tenant_id,
                session_id,
                satisfaction.score,
                self._seal(satisfaction.comment, _comment_at(tenant_id, session_id)),
                satisfaction.rated_at,
            ),
        )

    def _seal(self, text: str, context: bytes) -> bytes | None:
        return self._keyring.seal(text.encode(), context=context) if text else None

    def _open(self, sealed: bytes | None, context: bytes) -> str:
        return self._keyring.open(bytes(sealed), context=context).decode() if sealed is not None else ""


def _opener_at(tenant_id: str, session_id: int) -> bytes:
    return f"opener {tenant_id} {session_id}".encode()


def _comment_at(tenant_id: str, session_id: int) -> bytes:
    return f"comment {tenant_id} {session_id}".encode()
