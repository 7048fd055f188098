"""Credentials and refresh tokens in PostgreSQL: hashes only."""

from __future__ import annotations

from datetime import datetime

from psycopg.rows import class_row

from mesh.stores.postgres import Connection
from services.user.domain import RefreshToken


async def add(conn: Connection, token_hash: bytes, token: RefreshToken) -> None:
    """Keep a new refresh token."""
    query = """
        INSERT INTO cs_refresh_token (token_hash, tenant_id, user_id, family, expires_at) VALUES (%s, %s, %s, %s, %s)
    """
    await conn.execute(query, [token_hash, token.tenant_id, token.user_id, token.family, token.expires_at])


async def locked(conn: Connection, tenant_id: str, token_hash: bytes) -> RefreshToken | None:
    """Return the token, or None when it is unknown; lock it until the transaction ends.

    The owner's row is locked first, as everyone does who changes a user and then revokes tokens: two who lock in
    different orders would wait for each other.
    """
    owner = """
        SELECT FROM cs_user WHERE tenant_id = %s
        AND id = (SELECT user_id FROM cs_refresh_token WHERE tenant_id = %s AND token_hash = %s) FOR NO KEY UPDATE
    """
    await conn.execute(owner, [tenant_id, tenant_id, token_hash])
    query = """
        SELECT t.tenant_id, t.user_id, t.family, t.expires_at, t.used_at, t.revoked_at, t.successor_hash,
               EXISTS (SELECT FROM cs_refresh_token s WHERE s.tenant_id = t.tenant_id
                       AND s.token_hash = t.successor_hash AND s.used_at IS NOT NULL) AS successor_used
        FROM cs_refresh_token t WHERE t.tenant_id = %s AND t.token_hash = %s FOR UPDATE OF t
    """
    async with conn.cursor(row_factory=class_row(RefreshToken)) as cursor:
        return await (await cursor.execute(query, [tenant_id, token_hash])).fetchone()


async def use_up(conn: Connection, tenant_id: str, token_hash: bytes, *, successor: bytes, at: datetime) -> None:
    """Mark the token as used, and name the hash of the one that replaces it."""
    query = "UPDATE cs_refresh_token SET used_at = %s, successor_hash = %s WHERE tenant_id = %s AND token_hash = %s"
    await conn.execute(query, [at, successor, tenant_id, token_hash])


async def revoke_family(conn: Connection, tenant_id: str, family: int, at: datetime) -> None:
    """Revoke all tokens that came from one log-in."""
    query = "UPDATE cs_refresh_token SET revoked_at = %s WHERE tenant_id = %s AND family = %s AND revoked_at IS NULL"
    await conn.execute(query, [at, tenant_id, family])


async def revoke_user(conn: Connection, tenant_id: str, user_id: int, at: datetime) -> None:
    """Revoke all tokens of a user."""
    query = "UPDATE cs_refresh_token SET revoked_at = %s WHERE tenant_id = %s AND user_id = %s AND revoked_at IS NULL"
    await conn.execute(query, [at, tenant_id, user_id])


async def tenants_with_ended(conn: Connection, before: datetime) -> list[str]:
    """Return the shops that have tokens which ended before; needs a connection that reads every tenant."""
    cursor = await conn.execute("SELECT DISTINCT tenant_id FROM cs_refresh_token WHERE expires_at < %s", [before])
    return [row[0] for row in await cursor.fetchall()]


async def delete_ended(conn: Connection, tenant_id: str, before: datetime) -> int:
    """Delete the shop's tokens which ended before, and return how many there were."""
    query = "DELETE FROM cs_refresh_token WHERE tenant_id = %s AND expires_at < %s"
    return (await conn.execute(query, [tenant_id, before])).rowcount
