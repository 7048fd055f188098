"""Chat goes on with the last list it had, whatever happens to the moderation service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from services.chat import metrics
from services.chat.screening.lists import MAX_AGE_S, WordLists
from services.chat.screening.rules import Action
from services.chat.tests.known_words import KnownWords

pytestmark = pytest.mark.unit

SHOP = "qingshan"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def words() -> KnownWords:
    known = KnownWords()
    known.set(甲=Action.BLOCK)
    return known


@pytest.fixture
async def lists(words: KnownWords, clock: Clock) -> AsyncIterator[WordLists]:
    made = WordLists(words, monotonic=clock)
    yield made
    words.answering.set()
    await made.close()


async def finds(lists: WordLists, text: str) -> bool:
    rules = await lists.of(SHOP)
    return rules is not None and bool(rules.judge(text).found)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_first_check_waits_for_the_list(lists: WordLists) -> None:
    assert await finds(lists, "甲")


async def test_many_first_checks_read_the_list_once(lists: WordLists, words: KnownWords) -> None:
    assert all(await asyncio.gather(*(finds(lists, "甲") for _ in range(20))))
    assert words.sent == 1


async def test_a_change_that_was_heard_is_read(lists: WordLists, words: KnownWords) -> None:
    assert not await finds(lists, "乙")
    words.set(乙=Action.MASK)
    lists.changed(SHOP)
    await until(lambda: words.sent == 2)
    async with asyncio.timeout(10):
        while not await finds(lists, "乙"):
            await asyncio.sleep(0.01)


async def test_a_change_while_the_list_is_read_is_read_as_well(lists: WordLists, words: KnownWords) -> None:
    assert await finds(lists, "甲")
    words.answering.clear()
    lists.changed(SHOP)
    await asyncio.sleep(0)
    words.set(乙=Action.MASK)
    lists.changed(SHOP)
    words.answering.set()
    async with asyncio.timeout(10):
        while not await finds(lists, "乙"):
            await asyncio.sleep(0.01)


async def test_a_change_that_went_unheard_is_read_when_the_list_is_old(
    lists: WordLists, words: KnownWords, clock: Clock
) -> None:
    assert not await finds(lists, "乙")
    words.set(乙=Action.MASK)
    await lists.refresh()
    assert not await finds(lists, "乙")
    clock.now += MAX_AGE_S + 1
    await lists.refresh()
    async with asyncio.timeout(10):
        while not await finds(lists, "乙"):
            await asyncio.sleep(0.01)


async def test_an_old_list_that_has_not_changed_is_not_sent_again(
    lists: WordLists, words: KnownWords, clock: Clock
) -> None:
    words.base_words = {"vulgar": ["丙"]}
    words.categories = {"vulgar": Action.MASK}
    assert await finds(lists, "丙")
    clock.now += MAX_AGE_S + 1
    await lists.refresh()
    await lists.refresh()
    assert await finds(lists, "甲")
    assert (words.sent, words.base_sent) == (1, 1)


async def test_other_words_of_the_platform_are_read_when_it_is_replaced(
    lists: WordLists, words: KnownWords, clock: Clock
) -> None:
    words.categories = {"vulgar": Action.MASK}
    assert not await finds(lists, "丙")
    words.base_words = {"vulgar": ["丙"]}
    clock.now += MAX_AGE_S + 1
    await lists.refresh()
    async with asyncio.timeout(10):
        while not await finds(lists, "丙"):
            await asyncio.sleep(0.01)


async def test_the_last_list_goes_on_while_moderation_is_away_and_a_metric_says_so(
    lists: WordLists, words: KnownWords, clock: Clock
) -> None:
    assert await finds(lists, "甲")
    words.away = True
    for _ in range(3):
        clock.now += MAX_AGE_S
        await lists.refresh()
        await asyncio.sleep(0)
    assert await finds(lists, "甲")
    await lists.refresh()
    assert metrics.OLD_WORD_LISTS._value.get() == 1
    words.away = False
    words.set(乙=Action.MASK)
    lists.changed(SHOP)
    async with asyncio.timeout(10):
        while not await finds(lists, "乙"):
            await asyncio.sleep(0.01)
    await lists.refresh()
    assert metrics.OLD_WORD_LISTS._value.get() == 0


async def test_without_any_list_texts_pass_at_once_and_the_list_is_read_when_it_can_be(
    lists: WordLists, words: KnownWords
) -> None:
    words.away = True
    assert not await finds(lists, "甲")
    assert await lists.of(SHOP) is None
    words.away = False
    await lists.refresh()
    async with asyncio.timeout(10):
        while not await finds(lists, "甲"):
            await asyncio.sleep(0.01)


async def test_a_frozen_moderation_service_delays_first_checks_for_a_second_at_most(
    lists: WordLists, words: KnownWords, clock: Clock
) -> None:
    words.answering.clear()
    async with asyncio.timeout(8):
        assert await lists.of(SHOP) is None
    clock.now += 1.0
    async with asyncio.timeout(0.5):
        assert await lists.of(SHOP) is None
