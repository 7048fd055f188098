"""Entries and their embeddings in PostgreSQL. Every query names its tenant, and row-level security checks it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from services.knowledge.domain import AlreadyExists, Content, Faq

if TYPE_CHECKING:
    from services.knowledge.embedding import Vector

Connection: TypeAlias = AsyncConnection[Any]

_COLUMNS: Final = (
    "f.id, f.tenant_id, f.question, f.answer, f.similar_questions, f.category, f.locale, f.disabled, f.version,"
    " f.created_at, f.updated_at"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM cs_faq f WHERE f.tenant_id = %(tenant_id)s"  # noqa: S608  # our own columns


async def insert(
    conn: Connection, tenant_id: str, contents: Mapping[int, Content], *, request_id: str | None = None
) -> list[Faq]:
    """Add entries under the given ids, except where the question is answered already or the request was met."""
    query = """
        INSERT INTO cs_faq AS f (id, tenant_id, question, answer, similar_questions, category, locale, request_id)
        SELECT n.id, %(tenant_id)s, n.question, n.answer, n.similar_questions, n.category, n.locale, %(request_id)s
        FROM jsonb_to_recordset(%(entries)s)
            AS n(id bigint, question text, answer text, similar_questions text[], category text, locale text)
        ORDER BY n.id
        ON CONFLICT DO NOTHING
        RETURNING """

    entries = Jsonb([{"id": faq_id, **_columns(content)} for faq_id, content in contents.items()])
    return await _faqs(conn, query + _COLUMNS, tenant_id=tenant_id, request_id=request_id, entries=entries)


async def replace(conn: Connection, tenant_id: str, contents: Mapping[tuple[int, int], Content]) -> list[Faq]:
    """Replace the content of entries, named by id and version; those that are not there in that version are left out.

    Raise `AlreadyExists` when another enabled entry answers the new question; the transaction is then void.
    """
    query = """
        UPDATE cs_faq f SET question = n.question, answer = n.answer, similar_questions = n.similar_questions,
            category = n.category, locale = n.locale, version = f.version + 1, updated_at = now()
        FROM jsonb_to_recordset(%(entries)s) AS n(
            id bigint, version bigint, question text, answer text, similar_questions text[], category text, locale text)
        WHERE f.tenant_id = %(tenant_id)s AND f.id = n.id AND f.version = n.version
        RETURNING """

    entries = Jsonb([{"id": key[0], "version": key[1], **_columns(content)} for key, content in contents.items()])
    try:
        return await _faqs(conn, query + _COLUMNS, tenant_id=tenant_id, entries=entries)
    except UniqueViolation as error:
        raise AlreadyExists from error


async def set_disabled(conn: Connection, tenant_id: str, faq_id: int, version: int, *, disabled: bool) -> Faq | None:
    """Disable or enable an entry that has this version; return None when it has another one.

    Raise `AlreadyExists` when another enabled entry answers the question; the transaction is then void.
    """
    query = """
        UPDATE cs_faq f SET disabled = %(disabled)s, version = f.version + 1, updated_at = now()
        WHERE f.tenant_id = %(tenant_id)s AND f.id = %(id)s AND f.version = %(version)s
        RETURNING """

    try:
        faqs = await _faqs(conn, query + _COLUMNS, tenant_id=tenant_id, id=faq_id, version=version, disabled=disabled)
    except UniqueViolation as error:
        raise AlreadyExists from error
    return next(iter(faqs), None)


async def embed(conn: Connection, tenant_id: str, vectors: Mapping[int, Sequence[Vector]]) -> None:
    """Replace the embeddings of entries; an empty sequence takes an entry out of searches."""
    await conn.execute(
        "DELETE FROM cs_faq_embedding WHERE tenant_id = %s AND faq_id = ANY(%s)", [tenant_id, list(vectors)]
    )
    query = """
        INSERT INTO cs_faq_embedding (faq_id, part, tenant_id, embedding)
        SELECT n.faq_id, n.part, %(tenant_id)s, n.embedding::vector
        FROM unnest(%(ids)s::bigint[], %(parts)s::smallint[], %(embeddings)s::text[]) AS n(faq_id, part, embedding)
    """
    rows = [(faq_id, part, as_text(vector)) for faq_id, parts in vectors.items() for part, vector in enumerate(parts)]
    if rows:
        ids, parts, embeddings = zip(*rows, strict=True)
        parameters = {"tenant_id": tenant_id, "ids": list(ids), "parts": list(parts), "embeddings": list(embeddings)}
        await conn.execute(query, parameters)


async def by_id(conn: Connection, tenant_id: str, faq_id: int) -> Faq | None:
    """Return the entry, or None."""
    return next(iter(await by_ids(conn, tenant_id, [faq_id])), None)


async def by_ids(conn: Connection, tenant_id: str, faq_ids: Sequence[int]) -> list[Faq]:
    """Return those of the entries that are there, in no order."""
    return await _faqs(conn, _SELECT + " AND f.id = ANY(%(ids)s)", tenant_id=tenant_id, ids=list(faq_ids))


async def by_request(conn: Connection, tenant_id: str, request_id: str) -> Faq | None:
    """Return the entry that this request made before, or None."""
    query = _SELECT + " AND f.request_id = %(request_id)s"
    return next(iter(await _faqs(conn, query, tenant_id=tenant_id, request_id=request_id)), None)


async def by_questions(conn: Connection, tenant_id: str, questions: Sequence[tuple[str, str]]) -> list[Faq]:
    """Return the entries for pairs of a locale and a question: the enabled one, else the newest disabled one."""
    query = _SELECT
    query += " AND (f.locale, f.question) IN (SELECT * FROM unnest(%(locales)s::text[], %(questions)s::text[]))"
    query += " ORDER BY f.disabled DESC, f.id"
    locales, texts = [locale for locale, _ in questions], [text for _, text in questions]
    faqs = await _faqs(conn, query, tenant_id=tenant_id, locales=locales, questions=texts)
    # The best of each question comes last.
    return list({(faq.content.locale, faq.content.question): faq for faq in faqs}.values())


async def page(
    conn: Connection, tenant_id: str, *, after_id: int, limit: int, category: str, include_disabled: bool
) -> list[Faq]:
    """Return up to `limit` entries with an id above `after_id`, oldest first; an empty category means all."""
    query = _SELECT + " AND f.id > %(after_id)s"
    if category:
        query += " AND f.category = %(category)s"
    if not include_disabled:
        query += " AND NOT f.disabled"
    query += " ORDER BY f.id LIMIT %(limit)s"
    return await _faqs(conn, query, tenant_id=tenant_id, after_id=after_id, category=category, limit=limit)


def as_text(vector: Vector) -> str:
    """Return the vector in the text form of pgvector."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _columns(content: Content) -> dict[str, Any]:
    return {
        "question": content.question,
        "answer": content.answer,
        "similar_questions": list(content.similar_questions),
        "category": content.category,
        "locale": content.locale,
    }


def _faq(
    *,
    id: int,  # noqa: A002  # named by the column
    tenant_id: str,
    question: str,
    answer: str,
    similar_questions: list[str],
    category: str,
    locale: str,
    disabled: bool,
    version: int,
    created_at: datetime,
    updated_at: datetime,
) -> Faq:
    content = Content(question, answer, tuple(similar_questions), category, locale)
    return Faq(id, tenant_id, content, disabled, version, created_at, updated_at)


async def _faqs(conn: Connection, query: str, **parameters: Any) -> list[Faq]:
    async with conn.cursor(row_factory=kwargs_row(_faq)) as cursor:
        return await (await cursor.execute(query.encode(), parameters)).fetchall()
