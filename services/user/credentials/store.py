"""Hashes of passwords and secrets in PostgreSQL."""

from __future__ import annotations

from mesh.stores.postgres import Connection


async def credential(conn: Connection, tenant_id: str, user_id: int) -> str | None:
    """Return the hash of the user's password or secret, or None when there is none."""
    query = "SELECT hash FROM cs_credential WHERE tenant_id = %s AND user_id = %s"
    row = await (await conn.execute(query, [tenant_id, user_id])).fetchone()
    return row[0] if row else None


async def put_credential(conn: Connection, tenant_id: str, user_id: int, hashed: str) -> None:
    """Set the hash of the user's password or secret."""
    query = """
        INSERT INTO cs_credential (user_id, tenant_id, hash) VALUES (%s, %s, %s)
        ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, changed_at = now()
    """
    await conn.execute(query, [user_id, tenant_id, hashed])


async def replace_credential(conn: Connection, tenant_id: str, user_id: int, *, before: str, after: str) -> bool:
    """Replace the stored hash; return False and change nothing when it is not the expected one."""
    query = """
        UPDATE cs_credential SET hash = %s, changed_at = now() WHERE tenant_id = %s AND user_id = %s AND hash = %s
    """
    return (await conn.execute(query, [after, tenant_id, user_id, before])).rowcount == 1
