"""Word lists and hits in PostgreSQL. Every query names its tenant, and row-level security checks it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg.rows import class_row

from mesh.stores.postgres import Connection
from services.moderation.domain import SensitiveWord, WordAction, WordHit

_HIT: Final = "id, session_id, customer_id, user_id, word, category, action, found_at"


async def version(conn: Connection, tenant_id: str) -> int:
    """Return the version of a shop's list."""
    cursor = await conn.execute("SELECT version FROM cs_word_list WHERE tenant_id = %s", [tenant_id])
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def next_version(conn: Connection, tenant_id: str) -> int:
    """Lock a shop's list until the transaction ends, and return its new version."""
    query = """
        INSERT INTO cs_word_list AS l (tenant_id, version) VALUES (%s, 1)
        ON CONFLICT (tenant_id) DO UPDATE SET version = l.version + 1
        RETURNING version
    """
    row = await (await conn.execute(query, [tenant_id])).fetchone()
    assert row is not None  # noqa: S101  # an upsert returns its row
    return int(row[0])


async def count(conn: Connection, tenant_id: str) -> int:
    """Return how many words a shop's own list has."""
    row = await (
        await conn.execute("SELECT count(*) FROM cs_sensitive_word WHERE tenant_id = %s", [tenant_id])
    ).fetchone()
    return 0 if row is None else int(row[0])


async def put(conn: Connection, tenant_id: str, words: Mapping[str, WordAction], changed_by: int) -> int:
    """Add words or change their action; return how many rows differ now."""
    query = """
        INSERT INTO cs_sensitive_word AS w (tenant_id, word, action, changed_by)
        SELECT %(tenant)s, n.word, n.action, %(by)s FROM unnest(%(words)s::text[], %(actions)s::smallint[])
            AS n(word, action)
        ON CONFLICT (tenant_id, word) DO UPDATE SET action = excluded.action, changed_by = excluded.changed_by,
            changed_at = now()
        WHERE w.action <> excluded.action
    """
    parameters = {
        "tenant": tenant_id,
        "by": changed_by,
        "words": list(words),
        "actions": [int(action) for action in words.values()],
    }
    return (await conn.execute(query, parameters)).rowcount


async def remove(conn: Connection, tenant_id: str, words: Sequence[str]) -> int:
    """Remove words; return how many were there."""
    query = "DELETE FROM cs_sensitive_word WHERE tenant_id = %s AND word = ANY(%s)"
    return (await conn.execute(query, [tenant_id, list(words)])).rowcount


async def words(
    conn: Connection, tenant_id: str, *, after: str, limit: int, containing: str = ""
) -> list[SensitiveWord]:
    """Return up to `limit` words of a shop's own list after a word, in their order."""
    query = """
        SELECT word, action, changed_by, changed_at FROM cs_sensitive_word
        WHERE tenant_id = %s AND word > %s AND (%s = '' OR strpos(lower(word), lower(%s)) > 0)
        ORDER BY word LIMIT %s
    """
    async with conn.cursor(row_factory=class_row(SensitiveWord)) as cursor:
        await cursor.execute(query, [tenant_id, after, containing, containing, limit])
        return await cursor.fetchall()


async def choices(conn: Connection, tenant_id: str) -> dict[str, WordAction]:
    """Return what a shop has chosen to do about categories."""
    cursor = await conn.execute("SELECT category, action FROM cs_word_category WHERE tenant_id = %s", [tenant_id])
    return {category: WordAction(action) for category, action in await cursor.fetchall()}


async def choose(conn: Connection, tenant_id: str, category: str, action: WordAction, changed_by: int) -> None:
    """Keep what a shop does about a category."""
    query = """
        INSERT INTO cs_word_category (tenant_id, category, action, changed_by) VALUES (%s, %s, %s, %s)
        ON CONFLICT (tenant_id, category) DO UPDATE SET action = excluded.action, changed_by = excluded.changed_by,
            changed_at = now()
    """
    await conn.execute(query, [tenant_id, category, int(action), changed_by])


async def add_hits(conn: Connection, tenant_id: str, client_message_id: str, hits: Sequence[WordHit]) -> None:
    """Keep the words that were found in a message; those of a message that is known already change nothing."""
    query = f"""
        INSERT INTO cs_word_hit (tenant_id, client_message_id, place, {_HIT})
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
    """  # noqa: S608  # a constant
    async with conn.cursor() as cursor:
        await cursor.executemany(
            query,
            [
                (
                    tenant_id,
                    client_message_id,
                    place,
                    hit.id,
                    hit.session_id,
                    hit.customer_id,
                    hit.user_id,
                    hit.word,
                    hit.category,
                    int(hit.action),
                    hit.found_at,
                )
                for place, hit in enumerate(hits)
            ],
        )


async def hits(conn: Connection, tenant_id: str, *, before: int, limit: int, session_id: int) -> list[WordHit]:
    """Return up to `limit` hits with an id below `before`, newest first; session 0 means all."""
    query = f"""
        SELECT {_HIT} FROM cs_word_hit
        WHERE tenant_id = %s AND id < %s AND (%s = 0 OR session_id = %s) ORDER BY id DESC LIMIT %s
    """  # noqa: S608  # a constant
    async with conn.cursor(row_factory=class_row(WordHit)) as cursor:
        await cursor.execute(query, [tenant_id, before, session_id, session_id, limit])
        return await cursor.fetchall()
