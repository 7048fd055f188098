"""Messages in PostgreSQL, sealed. Every query names its tenant, and row-level security checks it again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from psycopg.rows import class_row

from mesh.stores.keyring import Keyring
from mesh.stores.postgres import Connection
from services.archive.domain import Archived

_COLUMNS = (
    "tenant_id, session_id, seq, message_id, customer_id, sender_kind, sender_id, sent_at, body, client_message_id,"
    " changes_seq, internal"
)


class ArchiveStore:
    """Adds messages and reads them by page."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def add(self, conn: Connection, tenant_id: str, messages: Sequence[Archived]) -> int:
        """Add messages of one shop, and return how many were added.

        Those that are there already are left out, and those whose position or whose author's id is taken.
        """
        query = """
            INSERT INTO cs_message
                (tenant_id, session_id, seq, message_id, customer_id, sender_kind, sender_id, sent_at, body,
                 client_message_id, changes_seq, internal)
            SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
                                     %s::bigint[], %s::timestamptz[], %s::bytea[], %s::text[], %s::bigint[],
                                     %s::boolean[])
            ON CONFLICT DO NOTHING
        """
        sealed = self._keyring.seal_all([(message.body, _context(message)) for message in messages])
        columns = [
            _numbers([message.session_id for message in messages]),
            _numbers([message.seq for message in messages]),
            _numbers([message.message_id for message in messages]),
            _numbers([message.customer_id for message in messages]),
            _numbers([message.sender_kind for message in messages]),
            _numbers([message.sender_id for message in messages]),
            _array([message.sent_at.isoformat() for message in messages]),
            # In an array, a backslash is written twice.
            _array(["\\\\x" + body.hex() for body in sealed]),
            _array([_quoted(message.client_message_id) for message in messages]),
            _array(["NULL" if message.changes_seq is None else str(message.changes_seq) for message in messages]),
            _array(["t" if message.internal else "f" for message in messages]),
        ]
        return (await conn.execute(query, [tenant_id, *columns])).rowcount

    async def known(self, conn: Connection, tenant_id: str, messages: Sequence[Archived]) -> set[tuple[int, int]]:
        """Return session and message id of those that are there."""
        query = """
            SELECT m.session_id, m.message_id FROM cs_message m
            JOIN unnest(%s::bigint[], %s::bigint[]) AS wanted (session_id, message_id) USING (session_id, message_id)
            WHERE m.tenant_id = %s
        """
        sessions = [message.session_id for message in messages]
        ids = [message.message_id for message in messages]
        return set(await (await conn.execute(query, [sessions, ids, tenant_id])).fetchall())

    async def posted(self, conn: Connection, tenant_id: str, messages: Sequence[Archived]) -> set[tuple[int, int, str]]:
        """Return session, side and client message id of those whose author's id is there, for whichever message."""
        query = """
            SELECT m.session_id, m.sender_kind, m.client_message_id FROM cs_message m
            JOIN unnest(%s::bigint[], %s::smallint[], %s::text[]) AS wanted (session_id, sender_kind, client_message_id)
            USING (session_id, sender_kind, client_message_id)
            WHERE m.tenant_id = %s
        """
        sessions = [message.session_id for message in messages]
        sides = [message.sender_kind for message in messages]
        ids = [message.client_message_id for message in messages]
        return set(await (await conn.execute(query, [sessions, sides, ids, tenant_id])).fetchall())

    async def find(
        self, conn: Connection, tenant_id: str, session_id: int, *, sender_kind: int, client_message_id: str
    ) -> Archived | None:
        """Return the message with a client message id of an author's side, None when there is none."""
        query = f"""
            SELECT {_COLUMNS} FROM cs_message
            WHERE tenant_id = %s AND session_id = %s AND sender_kind = %s AND client_message_id = %s
        """  # noqa: S608  # a constant
        async with conn.cursor(row_factory=class_row(Archived)) as cursor:
            await cursor.execute(query, [tenant_id, session_id, sender_kind, client_message_id])
            sealed = await cursor.fetchone()
        return None if sealed is None else self._opened(sealed)

    async def page(
        self,
        conn: Connection,
        tenant_id: str,
        session_id: int,
        *,
        before_seq: int | None,
        limit: int,
        internal: bool = False,
    ) -> list[Archived]:
        """Return up to `limit` messages of a session, newest first; those for staff alone only with `internal`."""
        query = f"""
            SELECT {_COLUMNS} FROM cs_message
            WHERE tenant_id = %s AND session_id = %s AND seq < coalesce(%s, 9223372036854775807)
              AND (%s OR NOT internal)
            ORDER BY seq DESC LIMIT %s
        """  # noqa: S608  # a constant
        async with conn.cursor(row_factory=class_row(Archived)) as cursor:
            await cursor.execute(query, [tenant_id, session_id, before_seq, internal, limit])
            return [self._opened(sealed) for sealed in await cursor.fetchall()]

    async def at(self, conn: Connection, tenant_id: str, session_id: int, seq: int) -> Archived | None:
        """Return the message at a position of a session, None when there is none."""
        query = f"SELECT {_COLUMNS} FROM cs_message WHERE tenant_id = %s AND session_id = %s AND seq = %s"  # noqa: S608  # a constant
        async with conn.cursor(row_factory=class_row(Archived)) as cursor:
            await cursor.execute(query, [tenant_id, session_id, seq])
            sealed = await cursor.fetchone()
        return None if sealed is None else self._opened(sealed)

    async def changes(
        self, conn: Connection, tenant_id: str, session_id: int, targets: Collection[int]
    ) -> list[Archived]:
        """Return the edits and recalls of the messages at some positions, in order."""
        query = f"""
            SELECT {_COLUMNS} FROM cs_message
            WHERE tenant_id = %s AND session_id = %s AND changes_seq = ANY(%s::bigint[])
            ORDER BY seq
        """  # noqa: S608  # a constant
        async with conn.cursor(row_factory=class_row(Archived)) as cursor:
            await cursor.execute(query, [tenant_id, session_id, _numbers(list(targets))])
            return [self._opened(sealed) for sealed in await cursor.fetchall()]

    def _opened(self, sealed: Archived) -> Archived:
        return replace(sealed, body=self._keyring.open(sealed.body, context=_context(sealed)))


def _context(message: Archived) -> bytes:
    """Return what a body is bound to: moved to another row, it does not open."""
    return f"cs_message.body {message.tenant_id} {message.session_id} {message.seq}".encode()


# Arrays as PostgreSQL reads them: psycopg asks for the type of each element, which took longer than the statement.
def _numbers(numbers: Sequence[int]) -> str:
    return _array(map(str, numbers))


def _array(elements: Iterable[str]) -> str:
    return "{" + ",".join(elements) + "}"


def _quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
