"""Words are found however they are spaced and written, and not where letters only follow each other."""

from __future__ import annotations

import pytest

from services.chat.screening.rules import Action, Found, Rules, base_words, own_words
from services.chat.screening.word_list import Word, WordList

pytestmark = pytest.mark.unit


def found(text: str, *words: str) -> list[str]:
    """Return what a list of these words finds in a text."""
    rules = Rules(1, WordList(()), own_words((word, Action.REVIEW) for word in words), {})
    return [each.word for each in rules.judge(text).found]


@pytest.mark.parametrize(
    "text",
    [
        "我要买手枪",
        "我要买手 枪吗",
        "手-枪",
        "手\u200b枪",
        "手　枪",
        "手😀枪",
        "手槍多少钱",
        "手.枪",
        "手*枪*卖不卖",
    ],
)
def test_a_chinese_word_is_found_whatever_stands_within_it(text: str) -> None:
    assert found(text, "手枪") == ["手枪"]


@pytest.mark.parametrize("text", ["洗洗手，枪灰色的有吗", "先洗手。枪色", "洗手\n枪色", "[洗手]枪色"])
def test_two_clauses_hold_no_word(text: str) -> None:
    assert found(text, "手枪") == []


def test_a_word_that_is_spelled_out_by_commas_is_found() -> None:
    assert found("法，轮，功好", "法轮功") == ["法轮功"]
    assert found("方法，轮功率", "法轮功") == []


@pytest.mark.parametrize(
    "text", ["fuck you", "FUCK", "ｆｕｃｋ", "f u c k", "f*u*c*k", "f-uck", "去fuck吧", "fu\u200bck"]
)
def test_a_latin_word_is_found_whatever_stands_within_it(text: str) -> None:
    assert found(text, "fuck") == ["fuck"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("usb hub", "sb"),
        ("sb2000", "sb"),
        ("wash it", "shit"),
        ("is b", "sb"),
        ("as set", "asset"),
        ("scunthorpe", "cunt"),
        ("1689.com.cn", "689.com"),
    ],
)
def test_a_latin_word_is_not_found_within_others(text: str, word: str) -> None:
    assert found(text, word) == []


def test_a_word_may_have_spaces_of_its_own() -> None:
    assert found("an adult  video here", "adult video") == ["adult video"]


def test_words_within_and_across_one_another_are_all_found() -> None:
    assert sorted(found("代开发票", "开发", "发票", "代开发票")) == ["代开发票", "发票", "开发"]


def test_a_word_of_signs_only_is_never_found() -> None:
    assert found("*** ???", "***", "?") == []


def test_the_strictest_word_decides_and_comes_first() -> None:
    rules = Rules(1, WordList(()), own_words([("甲", Action.REVIEW), ("乙", Action.BLOCK), ("丙", Action.MASK)]), {})
    verdict = rules.judge("甲乙丙")
    assert verdict.is_blocked
    assert [each.action for each in verdict.found] == [Action.BLOCK, Action.MASK, Action.REVIEW]


def test_a_masked_word_keeps_its_length_and_the_rest_of_the_text() -> None:
    rules = Rules(1, WordList(()), own_words([("傻逼", Action.MASK), ("客服", Action.REVIEW)]), {})
    assert rules.judge("你们客服 傻 逼 吗？").text == "你们客服 * * 吗？"
    assert rules.judge("傻*逼傻逼").text == "*****"


def test_a_category_that_is_off_is_not_looked_for() -> None:
    base = base_words({"vulgar": ["混蛋"], "weapons": ["炸药"]})
    rules = Rules(1, base, WordList(()), {"weapons": Action.BLOCK})
    assert rules.judge("混蛋").found == ()
    assert rules.judge("炸 药").found == (Found("炸药", "weapons", Action.BLOCK),)


def test_a_word_in_both_lists_is_found_in_both() -> None:
    rules = Rules(1, base_words({"vulgar": ["混蛋"]}), own_words([("混蛋", Action.BLOCK)]), {"vulgar": Action.MASK})
    assert rules.judge("混蛋").found == (
        Found("混蛋", "", Action.BLOCK),
        Found("混蛋", "vulgar", Action.MASK),
    )


def test_a_long_list_has_every_word() -> None:
    words = [f"词{number}号" for number in range(45_000)]
    listed = WordList(Word(word, "x") for word in words)
    for word in (words[0], words[19_999], words[20_000], words[-1]):
        assert [hit.word.text for hit in listed.find(word, word, ("x",))] == [word]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("傻逼" * 1365, "*" * 2730),
        ("傻 逼 " * 1000, "* * " * 1000),
        ("a" * 8192, "a" * 8192),
        ("a " * 4096, "* " * 4096),
    ],
)
def test_a_text_full_of_words_is_masked_throughout(text: str, stored: str) -> None:
    listed = [("傻逼", Action.MASK), *(("a" * length, Action.MASK) for length in range(1, 6))]
    assert Rules(1, WordList(()), own_words(listed), {}).judge(text).text == stored
