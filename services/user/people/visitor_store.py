"""Visitors who never began a conversation, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from mesh.stores.postgres import Connection
from services.user.domain import Kind


async def spoke(conn: Connection, tenant_id: str, user_id: int) -> None:
    """Note that a visitor began a conversation."""
    query = "UPDATE cs_user SET spoke = true WHERE tenant_id = %s AND id = %s AND kind = %s AND NOT spoke"
    await conn.execute(query, [tenant_id, user_id, int(Kind.VISITOR)])


async def tenants_with_silent(conn: Connection, before: datetime) -> list[str]:
    """Return the shops with visitors without messages from before; needs a connection that reads every tenant."""
    query = """
        SELECT DISTINCT tenant_id FROM cs_user
        WHERE kind = 1 AND NOT spoke AND merged_into IS NULL AND created_at < %s
    """
    return [row[0] for row in await (await conn.execute(query, [before])).fetchall()]


async def delete_silent(conn: Connection, tenant_id: str, before: datetime, *, limit: int) -> int:
    """Delete up to `limit` visitors without messages of the shop from before, with all their rows."""
    # One who begins a conversation at this moment is locked, and skipped.
    query = """
        SELECT id FROM cs_user
        WHERE tenant_id = %s AND kind = 1 AND NOT spoke AND merged_into IS NULL AND created_at < %s
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    """
    rows = await (await conn.execute(query, [tenant_id, before, limit])).fetchall()
    ids = [row[0] for row in rows]
    for table in ("cs_refresh_token", "cs_user_tag", "cs_revocation", "cs_user_audit"):
        await conn.execute(f"DELETE FROM {table} WHERE tenant_id = %s AND user_id = ANY(%s)", [tenant_id, ids])  # noqa: S608
    await conn.execute("DELETE FROM cs_user WHERE tenant_id = %s AND id = ANY(%s)", [tenant_id, ids])
    return len(ids)
