from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.knowledge.embedding import DIMENSIONS, E5, batches

pytestmark = pytest.mark.unit


def test_texts_are_embedded_in_small_goes_and_a_long_one_by_itself() -> None:
    texts = ["a" * 90, "b" * 90, "c" * 90, "d" * 5000, "e"]
    assert [[text[0] for text in batch] for batch in batches(texts)] == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(batches([])) == []


async def test_vectors_are_unit_vectors_in_the_order_of_their_texts(model: E5) -> None:
    texts = [f"第{number}个问题怎么办" for number in range(30)]
    vectors = await model.passages(texts)
    assert len(vectors) == len(texts)
    assert all(vector.shape == (DIMENSIONS,) for vector in vectors)
    assert all(np.isclose(np.linalg.norm(vector), 1, atol=1e-3) for vector in vectors)
    (alone,) = await model.passages([texts[17]])
    assert np.dot(alone, vectors[17]) > 0.999
    assert await model.passages([]) == []


async def test_meaning_counts_and_language_does_not(model: E5) -> None:
    asked = await model.query("How long does delivery take?")
    near, far = await model.passages(["快递几天能到？", "真丝裙子怎么洗？"])
    assert np.dot(asked, near) > np.dot(asked, far)


async def test_a_telephone_number_leaves_no_trace_in_the_vector(model: E5) -> None:
    one, other = await model.query("打13812345678找我"), await model.query("打15987654321找我")
    assert np.array_equal(one, other)


async def test_the_event_loop_goes_on_and_a_search_overtakes_an_import(model: E5) -> None:
    work = asyncio.create_task(model.passages(["一段相当长的说明文字，用来占住模型的时间。"] * 60))
    await asyncio.sleep(0)
    await asyncio.wait_for(model.query("多久发货"), 5)
    assert not work.done()
    assert len(await work) == 60
