"""Find the entries nearest to a vector, in one shop.

A shop with few texts is searched exactly: its vectors are read over `cs_faq_embedding_by_tenant` and sorted, which
takes about a millisecond per thousand. A shop with many uses the HNSW index, which is shared by all shops: it
yields the neighbours of all shops, nearest first, and the condition on the tenant filters them. The iterative scan of
pgvector continues until enough of the shop's own are found, or stops after `hnsw.max_scan_tuples`. In that case, which
is that of a shop that is small beside the others, the exact way answers. So a shop always gets its `limit` entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.knowledge import store
from services.knowledge.domain import Hit
from services.knowledge.store import Connection

if TYPE_CHECKING:
    from services.knowledge.embedding import Vector

# Up to this many texts a shop is searched exactly: 5 ms here, no slower than the index and never wrong.
EXACT_TEXTS: Final = 5_000

# An entry has a question, an answer and on average a handful of similar questions: so many rows for each hit.
_ROWS_PER_HIT: Final = 8

COUNT: Final = """
    SELECT count(*) FROM (SELECT FROM cs_faq_embedding WHERE tenant_id = %(tenant_id)s LIMIT %(most)s) AS texts
"""

# Grouping before sorting leaves the planner no way to use the HNSW index.
EXACT: Final = """
    SELECT faq_id, 1 - min(embedding <=> %(vector)s::vector) AS score
    FROM cs_faq_embedding WHERE tenant_id = %(tenant_id)s
    GROUP BY faq_id ORDER BY score DESC, faq_id LIMIT %(limit)s
"""

# "relaxed_order" finds more in the same time; the outer query puts the rows in order.
SETTINGS: Final = """
    SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', %(ef)s, true)
"""
INDEXED: Final = """
    WITH nearest AS MATERIALIZED (
        SELECT faq_id, embedding <=> %(vector)s::vector AS distance
        FROM cs_faq_embedding WHERE tenant_id = %(tenant_id)s
        ORDER BY embedding <=> %(vector)s::vector LIMIT %(rows)s
    )
    SELECT faq_id, 1 - min(distance) AS score FROM nearest
    GROUP BY faq_id ORDER BY score DESC, faq_id LIMIT %(limit)s
"""


async def nearest(
    conn: Connection, tenant_id: str, vector: Vector, limit: int, *, exact_texts: int = EXACT_TEXTS
) -> list[Hit]:
    """Return the `limit` enabled entries nearest to the vector, best first, each once; fewer when there are fewer.

    `exact_texts` is up to how many texts a shop is searched exactly.
    """
    texts = await _count(conn, tenant_id, exact_texts + 1)
    rows: list[tuple[int, float]] = []
    if texts > exact_texts:
        rows = await _indexed(conn, tenant_id, vector, limit)
    if len(rows) < limit:
        rows = await _exact(conn, tenant_id, vector, limit)
    faqs = {faq.id: faq for faq in await store.by_ids(conn, tenant_id, [faq_id for faq_id, _ in rows])}
    return [Hit(faqs[faq_id], score) for faq_id, score in rows if faq_id in faqs]


async def _count(conn: Connection, tenant_id: str, most: int) -> int:
    row = await (await conn.execute(COUNT, {"tenant_id": tenant_id, "most": most})).fetchone()
    return int(row[0]) if row else 0


async def _exact(conn: Connection, tenant_id: str, vector: Vector, limit: int) -> list[tuple[int, float]]:
    parameters = {"tenant_id": tenant_id, "vector": store.as_text(vector), "limit": limit}
    return await (await conn.execute(EXACT, parameters)).fetchall()


async def _indexed(conn: Connection, tenant_id: str, vector: Vector, limit: int) -> list[tuple[int, float]]:
    rows = limit * _ROWS_PER_HIT
    # The list that the index keeps while it walks; 1000 is pgvector's most.
    await conn.execute(SETTINGS, {"ef": str(min(1000, max(100, rows)))})
    parameters = {"tenant_id": tenant_id, "vector": store.as_text(vector), "rows": rows, "limit": limit}
    return await (await conn.execute(INDEXED, parameters)).fetchall()
