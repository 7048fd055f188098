"""Shops and users in PostgreSQL. Every query names its tenant, and row-level security checks it again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg.rows import class_row, kwargs_row

from mesh.stores.keyring import Keyring
from mesh.stores.postgres import Connection
from services.user.domain import Kind, Role, Tenant, User

_USER = """
    SELECT u.tenant_id, u.id AS user_id, u.kind, u.roles, u.display_name, coalesce(u.external_id, '') AS external_id,
           u.phone, u.scopes, u.disabled, coalesce(u.merged_into, 0) AS merged_into, u.locale, u.capacity, u.created_at,
           u.token_generation,
           ARRAY(SELECT t.tag FROM cs_user_tag t
                 WHERE t.tenant_id = u.tenant_id AND t.user_id = u.id ORDER BY t.tag) AS tags
    FROM cs_user u WHERE u.tenant_id = %(tenant_id)s
"""


class UserStore:
    """Read and write shops and users; telephone numbers and identity secrets are sealed under the keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def tenant(self, conn: Connection, tenant_id: str) -> Tenant | None:
        """Return the shop, or None when there is none."""
        async with conn.cursor(row_factory=class_row(Tenant)) as cursor:
            query = "SELECT tenant_id, name_zh, name_en, disabled FROM cs_tenant WHERE tenant_id = %s"
            return await (await cursor.execute(query, [tenant_id])).fetchone()

    async def identity_secret(self, conn: Connection, tenant_id: str) -> bytes | None:
        """Return the secret by which the shop's server signs shoppers, or None when there is no such shop."""
        cursor = await conn.execute("SELECT identity_secret FROM cs_tenant WHERE tenant_id = %s", [tenant_id])
        row = await cursor.fetchone()
        return self._keyring.open(row[0], context=_identity_context(tenant_id)) if row else None

    async def put_tenant(self, conn: Connection, tenant: Tenant, identity_secret: bytes) -> None:
        """Add the shop, or change its names, its secret, and whether it is disabled."""
        query = """
            INSERT INTO cs_tenant (tenant_id, name_zh, name_en, disabled, identity_secret) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (tenant_id) DO UPDATE SET name_zh = excluded.name_zh, name_en = excluded.name_en,
                disabled = excluded.disabled, identity_secret = excluded.identity_secret
        """
        sealed = self._keyring.seal(identity_secret, context=_identity_context(tenant.tenant_id))
        await conn.execute(query, [tenant.tenant_id, tenant.name_zh, tenant.name_en, tenant.disabled, sealed])

    async def user(self, conn: Connection, tenant_id: str, user_id: int, *, lock: bool = False) -> User | None:
        """Return the user, or None; `lock` keeps others from changing it until the transaction ends."""
        query = _USER + "AND u.id = %(id)s" + (" FOR NO KEY UPDATE OF u" if lock else "")
        return next(iter(await self._users(conn, query, tenant_id=tenant_id, id=user_id)), None)

    async def user_named(self, conn: Connection, tenant_id: str, kind: Kind, external_id: str) -> User | None:
        """Return the user of this kind with this log-in name, customer id or client id, or None."""
        query = _USER + "AND u.kind = %(kind)s AND u.external_id = %(name)s"
        return next(iter(await self._users(conn, query, tenant_id=tenant_id, kind=int(kind), name=external_id)), None)

    async def user_requested(self, conn: Connection, tenant_id: str, request_id: str) -> User | None:
        """Return the user that this request made before, or None."""
        query = _USER + "AND u.request_id = %(request_id)s"
        return next(iter(await self._users(conn, query, tenant_id=tenant_id, request_id=request_id)), None)

    async def page(
        self, conn: Connection, tenant_id: str, *, after_id: int, limit: int, kind: int = 0, tag: str = ""
    ) -> list[User]:
        """Return up to `limit` users with an id above `after_id`, oldest first; kind 0 and tag "" mean all."""
        query = _USER + "AND u.id > %(after)s"
        if kind:
            query += " AND u.kind = %(kind)s"
        if tag:
            query += (
                " AND EXISTS (SELECT FROM cs_user_tag w"
                " WHERE w.tenant_id = %(tenant_id)s AND w.tag = %(tag)s AND w.user_id = u.id)"
            )
        query += " ORDER BY u.id LIMIT %(limit)s"
        return await self._users(conn, query, tenant_id=tenant_id, after=after_id, limit=limit, kind=kind, tag=tag)

    async def add(self, conn: Connection, user: User, *, request_id: str | None = None) -> bool:
        """Add a user and return True, or False when the name or the request is there already."""
        query = """
            INSERT INTO cs_user (id, tenant_id, kind, roles, display_name, external_id, phone, scopes, disabled, locale,
                                 capacity, request_id, created_at)
            VALUES (%s, %s, %s, %s::smallint[], %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
        """
        values = [user.id, user.tenant_id, int(user.kind), [int(role) for role in user.roles], user.display_name]
        values += [user.external_id or None, self._sealed_phone(user), list(user.scopes), user.disabled, user.locale]
        values += [user.capacity, request_id, user.created_at]
        return (await conn.execute(query, values)).rowcount == 1

    async def change(self, conn: Connection, user: User) -> None:
        """Write the fields that can change: name, phone, disabled, merged_into, locale, capacity."""
        query = """
            UPDATE cs_user
            SET display_name = %s, phone = %s, disabled = %s, merged_into = %s, locale = %s, capacity = %s
            WHERE tenant_id = %s AND id = %s
        """
        values = [user.display_name, self._sealed_phone(user), user.disabled, user.merged_into or None, user.locale]
        await conn.execute(query, [*values, user.capacity, user.tenant_id, user.id])

    async def set_tags(self, conn: Connection, tenant_id: str, user_id: int, tags: Sequence[str]) -> None:
        """Replace the whole set of labels."""
        await conn.execute(
            "DELETE FROM cs_user_tag WHERE tenant_id = %s AND user_id = %s AND tag <> ALL(%s)",
            [tenant_id, user_id, list(tags)],
        )
        await self.add_tags(conn, tenant_id, user_id, tags)

    async def add_tags(self, conn: Connection, tenant_id: str, user_id: int, tags: Sequence[str]) -> None:
        """Add labels to those the user has."""
        query = """
            INSERT INTO cs_user_tag (tenant_id, user_id, tag) SELECT %s, %s, unnest(%s::text[]) ON CONFLICT DO NOTHING
        """
        await conn.execute(query, [tenant_id, user_id, list(tags)])

    async def _users(self, conn: Connection, query: str, **values: object) -> list[User]:
        async with conn.cursor(row_factory=kwargs_row(self._user)) as cursor:
            return await (await cursor.execute(query, values)).fetchall()

    def _user(
        self,
        *,
        tenant_id: str,
        user_id: int,
        kind: int,
        roles: list[int],
        phone: bytes | None,
        tags: list[str],
        scopes: list[str],
        display_name: str,
        external_id: str,
        created_at: datetime,
        disabled: bool,
        merged_into: int,
        locale: str,
        capacity: int,
        token_generation: int,
    ) -> User:
        return User(
            id=user_id,
            tenant_id=tenant_id,
            kind=Kind(kind),
            roles=tuple(Role(role) for role in roles),
            display_name=display_name,
            external_id=external_id,
            created_at=created_at,
            phone=self._keyring.open(phone, context=_phone_context(tenant_id, user_id)).decode() if phone else "",
            tags=tuple(tags),
            scopes=tuple(scopes),
            disabled=disabled,
            merged_into=merged_into,
            locale=locale,
            capacity=capacity,
            token_generation=token_generation,
        )

    def _sealed_phone(self, user: User) -> bytes | None:
        if not user.phone:
            return None
        return self._keyring.seal(user.phone.encode(), context=_phone_context(user.tenant_id, user.id))


def _phone_context(tenant_id: str, user_id: int) -> bytes:
    return f"cs_user.phone {tenant_id} {user_id}".encode()


def _identity_context(tenant_id: str) -> bytes:
    return f"cs_tenant.identity_secret {tenant_id}".encode()
