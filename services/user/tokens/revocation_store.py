"""Token generations, recent revocations and the audit, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from psycopg.rows import kwargs_row

from mesh.stores.postgres import Connection
from services.user.domain import Action, LogOutCause, Revocation


async def next_generation(conn: Connection, tenant_id: str, user_id: int) -> int:
    """Begin the next generation of the user's tokens and return its number."""
    query = """
        UPDATE cs_user SET token_generation = token_generation + 1 WHERE tenant_id = %s AND id = %s
        RETURNING token_generation
    """
    row = await (await conn.execute(query, [tenant_id, user_id])).fetchone()
    if row is None:
        raise LookupError("the caller has the user's row locked, so it is there")
    return int(row[0])


async def put(conn: Connection, revocation: Revocation) -> None:
    """Store a revocation in place of the user's previous one."""
    query = """
        INSERT INTO cs_revocation (user_id, tenant_id, generation, cause, revoked_at) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (user_id) DO UPDATE SET generation = excluded.generation, cause = excluded.cause,
            revoked_at = excluded.revoked_at
    """
    await conn.execute(
        query,
        [
            revocation.user_id,
            revocation.tenant_id,
            revocation.generation,
            int(revocation.cause),
            revocation.revoked_at,
        ],
    )


async def since(conn: Connection, moment: datetime) -> list[Revocation]:
    """Return the revocations since; needs a connection that reads every tenant."""
    query = "SELECT tenant_id, user_id, generation, cause, revoked_at FROM cs_revocation WHERE revoked_at >= %s"
    async with conn.cursor(row_factory=kwargs_row(_revocation)) as cursor:
        return await (await cursor.execute(query, [moment])).fetchall()


async def tenants_before(conn: Connection, moment: datetime) -> list[str]:
    """Return the shops with revocations from before; needs a connection that reads every tenant."""
    cursor = await conn.execute("SELECT DISTINCT tenant_id FROM cs_revocation WHERE revoked_at < %s", [moment])
    return [row[0] for row in await cursor.fetchall()]


async def delete_before(conn: Connection, tenant_id: str, moment: datetime) -> int:
    """Delete the shop's revocations from before, and return how many there were."""
    query = "DELETE FROM cs_revocation WHERE tenant_id = %s AND revoked_at < %s"
    return (await conn.execute(query, [tenant_id, moment])).rowcount


async def audit(
    conn: Connection, audit_id: int, tenant_id: str, *, actor_id: int, user_id: int, action: Action, at: datetime
) -> None:
    """Note who did what to whose account."""
    query = "INSERT INTO cs_user_audit (id, tenant_id, actor_id, user_id, action, at) VALUES (%s, %s, %s, %s, %s, %s)"
    await conn.execute(query, [audit_id, tenant_id, actor_id, user_id, str(action), at])


def _revocation(*, tenant_id: str, user_id: int, generation: int, cause: int, revoked_at: datetime) -> Revocation:
    return Revocation(tenant_id, user_id, generation, LogOutCause(cause), revoked_at)
