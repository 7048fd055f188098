"""A small shop beside a big one. Vectors are drawn at random: what counts here is which rows a search gets to see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

from mesh.identity.files import Identity
from mesh.stores import postgres
from mesh.stores.postgres import Database
from mesh.testing.platform import Platform
from services.knowledge import search, store
from services.knowledge.embedding import DIMENSIONS
from services.knowledge.store import Connection

# The big shop's index is built once for the module, in about ten seconds.
pytestmark = [pytest.mark.store, pytest.mark.timeout(400)]

BIG: Final = "big-shop"
SMALL: Final = "small-shop"
BIG_ENTRIES: Final = 20_000
SMALL_ENTRIES: Final = 40
K: Final = 5

_INDEX: Final = "cs_faq_embedding_nearest"


class Shops(NamedTuple):
    """The vectors of both shops; the entry's id is the first id plus the row."""

    big: Any
    small: Any


_FIRST: Final = {SMALL: 10_000_000, BIG: 20_000_000}


def unit(count: int, seed: int, centre: float) -> Any:
    """Unit vectors in a cone and, like those of texts, with few independent directions."""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(0).standard_normal((24, DIMENSIONS)).astype(np.float32)
    vectors = random.standard_normal((count, 24)).astype(np.float32) @ directions / 5 + centre
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def fill(database: Database, tenant: str, vectors: Any) -> None:
    """Stores one entry with one text for each vector."""
    first = _FIRST[tenant]
    async with database.tenant(tenant) as conn:
        await conn.execute(
            "INSERT INTO cs_faq (id, tenant_id, question, answer, locale)"
            " SELECT id, %s, 'question ' || id, 'answer', 'en' FROM generate_series(%s::bigint, %s::bigint) AS n(id)",
            [tenant, first, first + len(vectors) - 1],
        )
        for start in range(0, len(vectors), 1000):
            chunk = vectors[start : start + 1000]
            await store.embed(conn, tenant, {first + start + row: [vector] for row, vector in enumerate(chunk)})


@pytest.fixture(scope="module")
async def shops(migrated: Platform) -> AsyncIterator[Shops]:
    """20,000 entries of one shop, all nearer to the questions than the 40 of the other."""
    owner = migrated.postgres
    made = Shops(unit(BIG_ENTRIES, 1, centre=1.5), unit(SMALL_ENTRIES, 2, centre=0.2))
    ((definition,),) = await owner.execute(f"SELECT pg_get_indexdef('{_INDEX}'::regclass)")
    # Building the index over the rows takes a fifth of the time that adding them to it one by one does.
    await owner.execute(f"DROP INDEX {_INDEX}")
    identity = Identity(migrated.identity, "knowledge")
    async with postgres.connect(owner.conninfo, identity, statement_timeout_s=300) as database:
        await fill(database, SMALL, made.small)
        await fill(database, BIG, made.big)
    # Within memory, beyond which pgvector adds row by row again, and with fewer candidates: a third of the time.
    quicker = definition.replace("ef_construction='200'", "ef_construction='40'")
    assert quicker != definition
    await owner.execute(f"SET maintenance_work_mem = '512MB'; {quicker}")
    await owner.execute("ANALYZE cs_faq, cs_faq_embedding")
    yield made
    await owner.execute(f"DROP INDEX {_INDEX}")
    await owner.execute("DELETE FROM cs_faq WHERE tenant_id IN ('big-shop', 'small-shop')")
    await owner.execute(definition)


async def test_the_index_is_built_as_the_design_says(migrated: Platform) -> None:
    ((definition,),) = await migrated.postgres.execute(f"SELECT pg_get_indexdef('{_INDEX}'::regclass)")
    assert "hnsw (embedding vector_cosine_ops)" in definition
    assert "m='16'" in definition
    assert "ef_construction='200'" in definition


def nearest_by_hand(tenant: str, vectors: Any, question: Any) -> list[int]:
    """The ids that a search must give, best first."""
    return [_FIRST[tenant] + int(row) for row in np.argsort(-(vectors @ question), kind="stable")[:K]]


async def plan(conn: Connection, tenant: str, query: str, question: Any, **more: int) -> str:
    parameters = {"tenant_id": tenant, "vector": store.as_text(question), "limit": K, **more}
    rows = await (await conn.execute(f"EXPLAIN (COSTS OFF) {query}".encode(), parameters)).fetchall()
    return "\n".join(row[0] for row in rows)


QUESTIONS: Final = unit(10, 3, centre=1.5)


async def test_a_small_shop_gets_its_k_nearest_beside_a_shop_with_20000(shops: Shops, database: Database) -> None:
    for question in QUESTIONS:
        async with database.tenant(SMALL) as conn:
            hits = await search.nearest(conn, SMALL, question, K)
            assert [hit.faq.id for hit in hits] == nearest_by_hand(SMALL, shops.small, question)
            assert {hit.faq.tenant_id for hit in hits} == {SMALL}
    async with database.tenant(SMALL) as conn:
        used = await plan(conn, SMALL, search.EXACT, QUESTIONS[0])
    assert "cs_faq_embedding_by_tenant" in used
    assert _INDEX not in used


async def test_a_small_shop_gets_its_k_nearest_even_by_the_index(shops: Shops, database: Database) -> None:
    # As if it were just too big to be searched exactly: the index gives up after the big shop's rows.
    for question in QUESTIONS[:3]:
        async with database.tenant(SMALL) as conn:
            await conn.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            await conn.execute("SET LOCAL enable_sort = off; SET LOCAL hnsw.max_scan_tuples = 2000")
            assert _INDEX in await plan(conn, SMALL, search.INDEXED, question, rows=40)
            parameters = {"tenant_id": SMALL, "vector": store.as_text(question), "rows": 40, "limit": K}
            assert len(await (await conn.execute(search.INDEXED, parameters)).fetchall()) < K
            hits = await search.nearest(conn, SMALL, question, K, exact_texts=10)
            assert [hit.faq.id for hit in hits] == nearest_by_hand(SMALL, shops.small, question)


async def test_a_big_shop_is_searched_by_the_index_and_nearly_exactly(shops: Shops, database: Database) -> None:
    found = 0
    for question in QUESTIONS:
        async with database.tenant(BIG) as conn:
            hits = await search.nearest(conn, BIG, question, K)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len({hit.faq.id for hit in hits}) == K
        found += len({hit.faq.id for hit in hits} & set(nearest_by_hand(BIG, shops.big, question)))
    assert found >= 0.9 * K * len(QUESTIONS)
    async with database.tenant(BIG) as conn:
        await conn.execute(search.SETTINGS, {"ef": "100"})
        assert _INDEX in await plan(conn, BIG, search.INDEXED, QUESTIONS[0], rows=40)


async def test_an_entry_with_many_texts_takes_one_place(shops: Shops, database: Database) -> None:
    question = QUESTIONS[0]
    first = _FIRST[BIG]
    close = question + 0.001 * unit(60, 4, centre=0.0)
    for limit in (0, search.EXACT_TEXTS, 1_000_000):
        async with database.tenant(BIG) as conn:
            await store.embed(conn, BIG, {first: list(close[:30]), first + 1: list(close[30:])})
            hits = await search.nearest(conn, BIG, question, K, exact_texts=limit)
            assert {hit.faq.id for hit in hits[:2]} == {first, first + 1}
            assert len({hit.faq.id for hit in hits}) == K
            await conn.execute("ROLLBACK; BEGIN")
