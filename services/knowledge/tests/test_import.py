from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mesh.stores.postgres import Database
from services.knowledge import demo
from services.knowledge.domain import FileRefused
from services.knowledge.embedding import DIMENSIONS, E5
from services.knowledge.entries import Entries
from services.knowledge.import_parser import Csv, JsonLines
from services.knowledge.importing import Import, Progress

if TYPE_CHECKING:
    from services.knowledge.embedding import Vector

pytestmark = pytest.mark.store


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def run(entries: Entries, tenant: str, data: bytes, *, csv: bool = True) -> list[Progress]:
    work = Import(entries=entries, tenant_id=tenant, reader=Csv() if csv else JsonLines())
    return [progress async for progress in work.run(pieces(data))]


def csv_of(count: int) -> bytes:
    rows = (
        f'怎么处理第{number}种情况,"先看一看, 再做{number}件事",如何{number}|怎样{number},其他,zh-CN\n'
        for number in range(count)
    )
    return ("question,answer,similar_questions,category,locale\n" + "".join(rows)).encode()


async def test_progress_grows_and_the_report_counts_everything(entries: Entries, tenant: str) -> None:
    data = csv_of(40)
    reports = await run(entries, tenant, data)
    for earlier, later in itertools.pairwise(reports):
        assert earlier.processed_bytes <= later.processed_bytes
        assert earlier.created <= later.created
        assert not earlier.finished
    last = reports[-1]
    assert (last.created, last.refused, last.finished, last.processed_bytes) == (40, 0, True, len(data))
    assert len(reports) >= 3
    assert len(await entries.page(tenant, after_id=0, limit=100)) == 40


async def test_importing_again_changes_nothing(entries: Entries, tenant: str) -> None:
    await run(entries, tenant, csv_of(20))
    before = await entries.page(tenant, after_id=0, limit=100)
    *_, last = await run(entries, tenant, csv_of(20))
    assert (last.created, last.updated, last.unchanged) == (0, 0, 20)
    assert await entries.page(tenant, after_id=0, limit=100) == before


async def test_bad_lines_are_named_and_the_good_ones_are_stored(entries: Entries, tenant: str) -> None:
    lines = [
        {"question": "好的一行", "answer": "答案"},
        {"question": "没有答案"},
        {"question": "x" * 1025, "answer": "a"},
        {"question": "语言不对", "answer": "a", "locale": "中文"},
        {"question": "相似太多", "answer": "a", "similar_questions": [f"s{n}" for n in range(21)]},
        {"question": "好的一行", "answer": "另一个答案"},
        {"question": "零\x00字符", "answer": "a"},
        {"question": "another good line", "answer": "a"},
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    reports = await run(entries, tenant, data, csv=False)
    bad = [(each.line, each.field) for progress in reports for each in progress.bad_lines]
    assert bad == [
        (2, "answer"),
        (3, "question"),
        (4, "locale"),
        (5, "similar_questions"),
        (6, "question"),
        (7, "question"),
    ]
    problems = {each.line: each.problem for progress in reports for each in progress.bad_lines}
    assert "line 1" in problems[6]
    assert all("; " in problem for problem in problems.values()), "every complaint says what to do"
    assert (reports[-1].created, reports[-1].refused) == (2, 6)
    stored = await entries.page(tenant, after_id=0, limit=10)
    assert [(faq.content.question, faq.content.locale) for faq in stored] == [
        ("好的一行", "zh-CN"),
        ("another good line", "en"),
    ]


async def test_of_very_many_bad_lines_a_thousand_are_told_and_all_are_counted(entries: Entries, tenant: str) -> None:
    reports = await run(entries, tenant, b"nonsense\n" * 2500, csv=False)
    assert sum(len(progress.bad_lines) for progress in reports) == 1000
    assert reports[-1].refused == 2500


async def test_a_file_that_is_too_large_is_refused_and_keeps_what_was_stored(entries: Entries, tenant: str) -> None:
    work = Import(entries=entries, tenant_id=tenant, reader=Csv(), max_bytes=4000)
    with pytest.raises(FileRefused, match="split it"):
        async for _ in work.run(pieces(csv_of(60))):
            pass
    assert len(await entries.page(tenant, after_id=0, limit=100)) >= 16


class Unread:
    """An embedder that does not read: for what is stored, not for what is found."""

    async def query(self, text: str) -> Vector:
        raise NotImplementedError

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        return [np.eye(1, DIMENSIONS, number % DIMENSIONS, dtype=np.float32)[0] for number, _ in enumerate(texts)]


@pytest.mark.parametrize("file", sorted(demo.FOLDER.glob("*.jsonl")), ids=lambda file: file.stem)
async def test_a_demo_shop_has_forty_and_more_answers_in_both_languages(
    database: Database, model: E5, tenant: str, file: Path
) -> None:
    ids = itertools.count(int(tenant.removeprefix("shop-")) * 1_000_000)
    entries = Entries(database=database, embedder=Unread(), next_id=lambda: next(ids))
    first = await demo.load(entries, tenant, file)
    assert first.refused == 0
    assert first.created >= 45
    stored = await entries.page(tenant, after_id=0, limit=200)
    assert sum(faq.content.locale == "en" for faq in stored) >= 8
    again = await demo.load(entries, tenant, file)
    assert (again.created, again.updated, again.unchanged) == (0, 0, first.created)
    # Reading all answers would take a minute; a question is told apart by its words alone.
    questions = [faq.content.question for faq in stored]
    passages = np.array(await model.passages(questions))
    for asked in range(0, len(questions), 4):
        assert int(np.argmax(passages @ await model.query(questions[asked]))) == asked
