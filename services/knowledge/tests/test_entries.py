import asyncio

import pytest

from mesh.stores.postgres import Database
from services.knowledge import search
from services.knowledge.domain import AlreadyExists, Content, NotFound, VersionConflict
from services.knowledge.embedding import E5
from services.knowledge.entries import Entries, Saved

pytestmark = pytest.mark.store

SHIP = Content("下单后多久发货？", "付款后 24 小时内发出。", ("什么时候发货",), "发货", "zh-CN")
RETURN = Content("支持七天无理由退货吗？", "支持，吊牌要在。", ("不喜欢可以退吗",), "退换货", "zh-CN")
WASH = Content("How do I wash linen?", "Below 30 degrees, gentle cycle.", (), "洗护", "en")


async def texts_of(database: Database, tenant: str, faq_id: int) -> int:
    async with database.tenant(tenant) as conn:
        query = "SELECT count(*) FROM cs_faq_embedding WHERE tenant_id = %s AND faq_id = %s"
        row = await (await conn.execute(query, [tenant, faq_id])).fetchone()
    assert row is not None
    return int(row[0])


async def test_an_entry_is_found_by_its_meaning_in_other_words_and_languages(entries: Entries, tenant: str) -> None:
    for number, content in enumerate((SHIP, RETURN, WASH)):
        await entries.create(tenant, f"request-{number}", content)
    for question, content in (
        ("我的东西几号能寄出来", SHIP),
        ("不合适能退掉吗", RETURN),
        ("washing a linen shirt", WASH),
        ("when do you ship my order", SHIP),
    ):
        hits = await entries.search(tenant, question, 3)
        assert hits[0].faq.content == content, question
        assert len({hit.faq.id for hit in hits}) == len(hits) == 3
        assert 1 >= hits[0].score >= hits[1].score >= hits[2].score >= -1


async def test_creating_again_with_the_same_request_gives_the_same_entry(entries: Entries, tenant: str) -> None:
    first, second = await asyncio.gather(*(entries.create(tenant, "request-1", SHIP) for _ in range(2)))
    third = await entries.create(tenant, "request-1", RETURN)
    assert first == second == third
    assert [faq.id for faq in await entries.page(tenant, after_id=0, limit=10)] == [first.id]


async def test_a_question_is_answered_once_in_each_language(entries: Entries, tenant: str) -> None:
    await entries.create(tenant, "request-1", SHIP)
    with pytest.raises(AlreadyExists):
        await entries.create(tenant, "request-2", SHIP)
    await entries.create(tenant, "request-3", Content(SHIP.question, "a", locale="zh-TW"))


async def test_updating_embeds_anew_and_checks_the_version(entries: Entries, database: Database, tenant: str) -> None:
    faq = await entries.create(tenant, "request-1", SHIP)
    assert await texts_of(database, tenant, faq.id) == 3
    changed = await entries.update(tenant, faq.id, 1, RETURN)
    assert (changed.id, changed.version, changed.content) == (faq.id, 2, RETURN)
    (hit,) = await entries.search(tenant, "不喜欢可以退吗", 5)
    assert hit.score > 0.95
    with pytest.raises(VersionConflict, match="version 2"):
        await entries.update(tenant, faq.id, 1, SHIP)
    with pytest.raises(NotFound):
        await entries.update(tenant, 1, 1, SHIP)


async def test_of_two_updates_of_one_version_one_wins(entries: Entries, database: Database, tenant: str) -> None:
    faq = await entries.create(tenant, "request-1", SHIP)
    results = await asyncio.gather(
        *(entries.update(tenant, faq.id, 1, content) for content in (RETURN, WASH)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Faq", "VersionConflict"]
    kept = await entries.get(tenant, faq.id)
    assert kept.version == 2
    assert await texts_of(database, tenant, faq.id) == len(kept.content.texts())


async def test_updating_to_a_question_that_is_answered_is_refused_and_changes_nothing(
    entries: Entries, tenant: str
) -> None:
    await entries.create(tenant, "request-1", SHIP)
    faq = await entries.create(tenant, "request-2", RETURN)
    with pytest.raises(AlreadyExists):
        await entries.update(tenant, faq.id, 1, SHIP)
    assert await entries.get(tenant, faq.id) == faq


async def test_a_disabled_entry_is_not_found_until_it_is_enabled(
    entries: Entries, database: Database, tenant: str
) -> None:
    faq = await entries.create(tenant, "request-1", SHIP)
    disabled = await entries.set_disabled(tenant, faq.id, disabled=True)
    assert (disabled.disabled, disabled.version) == (True, 2)
    assert await entries.set_disabled(tenant, faq.id, disabled=True) == disabled
    assert await entries.search(tenant, SHIP.question, 5) == []
    assert await texts_of(database, tenant, faq.id) == 0
    assert await entries.page(tenant, after_id=0, limit=10) == []
    assert len(await entries.page(tenant, after_id=0, limit=10, include_disabled=True)) == 1
    # Changed while it is disabled, it is still not found.
    await entries.update(tenant, faq.id, 2, RETURN)
    assert await entries.search(tenant, RETURN.question, 5) == []
    await entries.set_disabled(tenant, faq.id, disabled=False)
    assert [hit.faq.content for hit in await entries.search(tenant, RETURN.question, 5)] == [RETURN]


async def test_enabling_beside_an_entry_with_the_same_question_is_refused(entries: Entries, tenant: str) -> None:
    old = await entries.create(tenant, "request-1", SHIP)
    await entries.set_disabled(tenant, old.id, disabled=True)
    await entries.create(tenant, "request-2", SHIP)
    with pytest.raises(AlreadyExists):
        await entries.set_disabled(tenant, old.id, disabled=False)


async def test_saving_twice_changes_nothing_and_saving_changes_changes_them(entries: Entries, tenant: str) -> None:
    assert await entries.save(tenant, [SHIP, RETURN]) == Saved(created=2)
    before = await entries.page(tenant, after_id=0, limit=10)
    assert await entries.save(tenant, [RETURN, SHIP]) == Saved(unchanged=2)
    assert await entries.page(tenant, after_id=0, limit=10) == before
    longer = Content(SHIP.question, "48 小时内发出。", SHIP.similar_questions, SHIP.category, SHIP.locale)
    assert await entries.save(tenant, [longer, RETURN, WASH]) == Saved(created=1, updated=1, unchanged=1)
    assert [faq.version for faq in await entries.page(tenant, after_id=0, limit=10)] == [2, 1, 1]


async def test_saving_a_disabled_entry_changes_it_and_leaves_it_disabled(entries: Entries, tenant: str) -> None:
    faq = await entries.create(tenant, "request-1", SHIP)
    await entries.set_disabled(tenant, faq.id, disabled=True)
    assert await entries.save(tenant, [SHIP]) == Saved(unchanged=1)
    other = Content(SHIP.question, "a", locale=SHIP.locale)
    assert await entries.save(tenant, [other]) == Saved(updated=1)
    assert (await entries.get(tenant, faq.id)).disabled
    assert await entries.search(tenant, SHIP.question, 5) == []


async def test_two_imports_of_the_same_entries_at_once_store_each_once(
    entries: Entries, database: Database, tenant: str
) -> None:
    contents = [Content(f"问题{number}", f"答案{number}", locale="zh-CN") for number in range(12)]
    results = await asyncio.gather(*(entries.save(tenant, contents) for _ in range(3)))
    assert sum(saved.created for saved in results) == 12
    assert sum(saved.unchanged for saved in results) == 24
    faqs = await entries.page(tenant, after_id=0, limit=100)
    assert len(faqs) == 12
    assert [await texts_of(database, tenant, faq.id) for faq in faqs] == [2] * 12


async def test_pages_go_on_after_the_last_id_and_keep_to_a_category(entries: Entries, tenant: str) -> None:
    await entries.save(tenant, [SHIP, RETURN, WASH])
    first = await entries.page(tenant, after_id=0, limit=2)
    rest = await entries.page(tenant, after_id=first[-1].id, limit=2)
    assert [faq.content for faq in (*first, *rest)] == [SHIP, RETURN, WASH]
    (only,) = await entries.page(tenant, after_id=0, limit=5, category="洗护")
    assert only.content == WASH


async def test_another_shop_sees_nothing(entries: Entries, tenant: str) -> None:
    faq = await entries.create(tenant, "request-1", SHIP)
    other = f"{tenant}-other"
    with pytest.raises(NotFound):
        await entries.get(other, faq.id)
    assert await entries.search(other, SHIP.question, 5) == []
    assert await entries.page(other, after_id=0, limit=5) == []
    # The same request id is another shop's own.
    assert (await entries.create(other, "request-1", SHIP)).id != faq.id


async def test_a_query_without_a_tenant_sees_nothing_and_writes_nothing(
    entries: Entries, database: Database, model: E5, tenant: str
) -> None:
    faq = await entries.create(tenant, "request-1", SHIP)
    vector = await model.query("发货")
    async with database.dedicated() as conn:
        for query in ("SELECT count(*) FROM cs_faq", "SELECT count(*) FROM cs_faq_embedding"):
            assert await (await conn.execute(query.encode())).fetchone() == (0,)
        # Even when the query names the tenant: the connection does not act for it.
        for limit in (0, 1_000_000):
            assert await search.nearest(conn, tenant, vector, 5, exact_texts=limit) == []
        assert (await conn.execute("UPDATE cs_faq SET answer = '' WHERE id = %s", [faq.id])).rowcount == 0
    async with database.every_tenant() as conn:
        assert await (await conn.execute("SELECT count(*) FROM cs_faq")).fetchone() == (0,)
