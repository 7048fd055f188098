"""Canned replies in PostgreSQL. Every statement runs in the transaction of one shop."""

# ruff: noqa: S608  # the queries are made of the names of our own columns; values only ever travel as parameters

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow, dict_row

from mesh.stores.postgres import Database
from services.knowledge.canned.domain import CannedReply, Content, Editor, NotFound, ShortcutTaken, VersionConflict

_COLUMNS: Final = "id, tenant_id, owner_id, shortcut, category, body, version, updated_at"
_SELECT: Final = f"SELECT {_COLUMNS} FROM cs_canned_reply WHERE tenant_id = %(tenant)s"


class CannedReplies:
    """The canned replies of all shops. Every method is about one caller in one shop."""

    def __init__(self, database: Database, next_id: Callable[[], int]) -> None:
        self._database = database
        self._next_id = next_id

    async def page(self, editor: Editor, *, after_id: int, limit: int) -> list[CannedReply]:
        """Return up to `limit` shared ones and the caller's own with an id above `after_id`, oldest first."""
        async with self._database.tenant(editor.tenant_id) as conn:
            return await _fetch(
                conn,
                f"{_SELECT} AND owner_id IN (0, %(user)s) AND id > %(after)s ORDER BY id LIMIT %(limit)s",
                tenant=editor.tenant_id,
                user=editor.user_id,
                after=after_id,
                limit=limit,
            )

    async def create(self, editor: Editor, request_id: str, content: Content, *, shared: bool) -> CannedReply:
        """Add one; the same `request_id` returns the one it created. Raises `NotAllowed` and `ShortcutTaken`."""
        values = {
            **_values(content),
            "id": self._next_id(),
            "tenant": editor.tenant_id,
            "owner": editor.owner_of_new(shared=shared),
            "user": editor.user_id,
            "request": request_id,
        }
        async with self._database.tenant(editor.tenant_id) as conn:
            made = await _fetch(
                conn,
                "INSERT INTO cs_canned_reply"
                " (id, tenant_id, owner_id, shortcut, category, body, created_by, request_id)"
                " VALUES (%(id)s, %(tenant)s, %(owner)s, %(shortcut)s, %(category)s, %(body)s, %(user)s, %(request)s)"
                f" ON CONFLICT DO NOTHING RETURNING {_COLUMNS}",
                **values,
            ) or await _fetch(conn, f"{_SELECT} AND created_by = %(user)s AND request_id = %(request)s", **values)
        if not made:
            raise ShortcutTaken
        return made[0]

    async def update(self, editor: Editor, reply_id: int, version: int, content: Content) -> CannedReply:
        """Replace the content. Raises `NotFound`, `NotAllowed`, `VersionConflict` and `ShortcutTaken`."""
        try:
            async with self._database.tenant(editor.tenant_id) as conn:
                current = editor.must_change(await _locked(conn, editor, reply_id))
                if current.version != version:
                    raise VersionConflict(current.version)
                changed = await _fetch(
                    conn,
                    "UPDATE cs_canned_reply SET shortcut = %(shortcut)s, category = %(category)s, body = %(body)s,"
                    " version = version + 1, updated_at = now()"
                    f" WHERE tenant_id = %(tenant)s AND id = %(id)s RETURNING {_COLUMNS}",
                    **_values(content),
                    tenant=editor.tenant_id,
                    id=reply_id,
                )
                return changed[0]
        except UniqueViolation as error:
            raise ShortcutTaken from error

    async def delete(self, editor: Editor, reply_id: int) -> None:
        """Delete one; nothing happens when it is not there or is somebody else's own. Raises `NotAllowed`."""
        async with self._database.tenant(editor.tenant_id) as conn:
            try:
                editor.must_change(await _locked(conn, editor, reply_id))
            except NotFound:
                return
            await conn.execute(
                "DELETE FROM cs_canned_reply WHERE tenant_id = %s AND id = %s", (editor.tenant_id, reply_id)
            )


async def _locked(conn: AsyncConnection[Any], editor: Editor, reply_id: int) -> CannedReply | None:
    found = await _fetch(conn, f"{_SELECT} AND id = %(id)s FOR UPDATE", tenant=editor.tenant_id, id=reply_id)
    return found[0] if found else None


def _values(content: Content) -> dict[str, object]:
    return {"shortcut": content.shortcut, "category": content.category, "body": content.text}


def _reply(row: DictRow) -> CannedReply:
    return CannedReply(
        id=row["id"],
        tenant_id=row["tenant_id"],
        owner_id=row["owner_id"],
        content=Content(shortcut=row["shortcut"], category=row["category"], text=row["body"]),
        version=row["version"],
        updated_at=row["updated_at"],
    )


async def _fetch(conn: AsyncConnection[Any], query: str, **values: object) -> list[CannedReply]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return [_reply(row) for row in await cursor.fetchall()]
