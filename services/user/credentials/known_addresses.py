"""Addresses from which people logged in, in PostgreSQL: a guesser elsewhere must not keep their owner out."""

from __future__ import annotations

from datetime import datetime

from mesh.stores.postgres import Connection, Database
from services.user.domain import ADDRESS_KNOWN


async def is_known(conn: Connection, tenant_id: str, user_id: int, address: bytes, *, since: datetime) -> bool:
    """Return whether the user logged in from the address since then."""
    query = """
        SELECT EXISTS (SELECT FROM cs_login_address WHERE tenant_id = %s AND user_id = %s AND address = %s
                       AND used_at >= %s)
    """
    row = await (await conn.execute(query, [tenant_id, user_id, address, since])).fetchone()
    return row is not None and bool(row[0])


async def remember(conn: Connection, tenant_id: str, user_id: int, address: bytes, at: datetime) -> None:
    """Note that the user logged in from the address."""
    query = """
        INSERT INTO cs_login_address (tenant_id, user_id, address, used_at) VALUES (%s, %s, %s, %s)
        ON CONFLICT (user_id, address) DO UPDATE SET used_at = excluded.used_at
    """
    await conn.execute(query, [tenant_id, user_id, address, at])


async def sweep(db: Database, now: datetime) -> int:
    """Delete the addresses unused for `ADDRESS_KNOWN`, and return how many there were."""
    before = now - ADDRESS_KNOWN
    async with db.every_tenant() as conn:
        cursor = await conn.execute("SELECT DISTINCT tenant_id FROM cs_login_address WHERE used_at < %s", [before])
        tenants = [row[0] for row in await cursor.fetchall()]
    deleted = 0
    for tenant_id in tenants:
        async with db.tenant(tenant_id) as conn:
            query = "DELETE FROM cs_login_address WHERE tenant_id = %s AND used_at < %s"
            deleted += (await conn.execute(query, [tenant_id, before])).rowcount
    return deleted
