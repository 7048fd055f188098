"""Signing keys in PostgreSQL. They belong to the platform, not to a shop."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from mesh.stores.keyring import Keyring
from mesh.stores.postgres import Connection
from services.user.tokens.access import SigningKey

# The tenant of what belongs to no shop.
_PLATFORM = "*"


class KeyStore:
    """Read and write signing keys; the private halves are sealed under the keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def lock(self, conn: Connection) -> None:
        """Keep other instances from rotating until the transaction ends."""
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('cs_signing_key'))")

    async def all(self, conn: Connection) -> list[SigningKey]:
        """Return all keys, in no order."""
        query = "SELECT kid, private_key, public_key, active_from FROM cs_signing_key WHERE tenant_id = %s"
        rows = await (await conn.execute(query, [_PLATFORM])).fetchall()
        return [SigningKey(kid, self._open(kid, private), bytes(public), since) for kid, private, public, since in rows]

    async def add(self, conn: Connection, key: SigningKey, now: datetime) -> None:
        """Keep a new key."""
        query = """
            INSERT INTO cs_signing_key (kid, tenant_id, private_key, public_key, active_from, created_at)
            VALUES (%s, %s, %s, %s, %s, %s)
        """
        sealed = self._keyring.seal(key.private_key, context=_context(key.kid))
        await conn.execute(query, [key.kid, _PLATFORM, sealed, key.public_key, key.active_from, now])

    async def delete(self, conn: Connection, kids: Collection[str]) -> None:
        """Delete keys."""
        await conn.execute("DELETE FROM cs_signing_key WHERE tenant_id = %s AND kid = ANY(%s)", [_PLATFORM, list(kids)])

    def _open(self, kid: str, private: bytes) -> bytes:
        return self._keyring.open(private, context=_context(kid))


def _context(kid: str) -> bytes:
    return f"cs_signing_key.private_key {kid}".encode()
