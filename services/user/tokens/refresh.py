"""Refresh tokens: opaque, used once, and a used one that comes back ends its whole family.

A token is `<tenant>.<256 bits in base64url>`, so that its shop is known before anything is looked up. What replaces a
token is computed from it and a key of the keyring: a client that did not get the answer asks again and gets the
same successor, although only hashes are stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mesh.stores.keyring import Keyring
from mesh.stores.postgres import Connection, Database
from services.user.domain import (
    REFRESH_LIFETIME,
    RefreshToken,
    Standing,
    TokenExpired,
    TokenInvalid,
    standing,
)
from services.user.tokens import refresh_store

_FORM = re.compile(r"^([a-z0-9-]{1,32})\.[A-Za-z0-9_-]{43}$")


@dataclass(frozen=True, slots=True)
class Issued:
    """A token for its owner's eyes, and when it ends."""

    token: str = field(repr=False)
    expires_at: datetime


class RefreshTokens:
    """Issue, replace and revoke refresh tokens."""

    def __init__(self, *, db: Database, keyring: Keyring, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._keyring = keyring
        self._clock = clock

    async def issue(self, conn: Connection, tenant_id: str, user_id: int, family: int) -> Issued:
        """Return the first token of a new family."""
        return await self._add(conn, f"{tenant_id}.{secrets.token_urlsafe(32)}", tenant_id, user_id, family)

    async def find(self, conn: Connection, token: str) -> RefreshToken:
        """Return what is known of a token, whatever its standing; raise `TokenInvalid` when it is unknown."""
        known = await refresh_store.locked(conn, tenant_of(token), _hash(token))
        if known is None:
            raise TokenInvalid("the refresh token is unknown; log in again")
        return known

    def check(self, known: RefreshToken) -> None:
        """Raise `TokenInvalid` or `TokenExpired` unless the token's holder is its owner now."""
        match standing(known, self._clock()):
            case Standing.STOLEN | Standing.REVOKED:
                raise TokenInvalid("the refresh token is used or revoked; log in again")
            case Standing.EXPIRED:
                raise TokenExpired("the refresh token has ended; log in again")

    async def exchange(self, conn: Connection, token: str) -> tuple[RefreshToken, Issued] | None:
        """Use the token up and return what was known of it and its successor; raise like `find` and `check`.

        Return None when the token was stolen: its family is then revoked in this transaction, which the caller has to
        commit before it refuses.
        """
        known = await self.find(conn, token)
        now, tenant_id = self._clock(), known.tenant_id
        judged = standing(known, now)
        if judged is Standing.STOLEN:
            await refresh_store.revoke_family(conn, tenant_id, known.family, now)
            return None
        self.check(known)
        successor = self._successor(tenant_id, token)
        if judged is Standing.REPEATED:
            # The keyring was rotated within the last seconds: the successor cannot be computed again.
            if known.successor_hash != _hash(successor):
                raise TokenInvalid("the refresh token is used; log in again")
            return known, Issued(successor, (await self.find(conn, successor)).expires_at)
        issued = await self._add(conn, successor, tenant_id, known.user_id, known.family)
        await refresh_store.use_up(conn, tenant_id, _hash(token), successor=_hash(successor), at=now)
        return known, issued

    async def revoke(self, token: str) -> None:
        """Revoke the token's family. Unknown tokens are no error."""
        try:
            tenant_id = tenant_of(token)
        except TokenInvalid:
            return
        async with self._db.tenant(tenant_id) as conn:
            known = await refresh_store.locked(conn, tenant_id, _hash(token))
            if known is not None:
                await refresh_store.revoke_family(conn, tenant_id, known.family, self._clock())

    async def sweep(self) -> int:
        """Delete the tokens that have ended, and return how many there were."""
        now = self._clock()
        async with self._db.every_tenant() as conn:
            tenants = await refresh_store.tenants_with_ended(conn, now)
        deleted = 0
        for tenant_id in tenants:
            async with self._db.tenant(tenant_id) as conn:
                deleted += await refresh_store.delete_ended(conn, tenant_id, now)
        return deleted

    async def _add(self, conn: Connection, token: str, tenant_id: str, user_id: int, family: int) -> Issued:
        expires_at = self._clock() + REFRESH_LIFETIME
        await refresh_store.add(conn, _hash(token), RefreshToken(tenant_id, user_id, family, expires_at))
        return Issued(token, expires_at)

    def _successor(self, tenant_id: str, token: str) -> str:
        secret = hmac.digest(self._keyring.derive("refresh token"), token.encode(), "sha256")
        return f"{tenant_id}.{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"


def tenant_of(token: str) -> str:
    """Return the shop that a token names, which proves nothing yet; raise `TokenInvalid` when it names none."""
    match = _FORM.match(token)
    if match is None:
        raise TokenInvalid("this is not a refresh token of this platform")
    return match[1]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
