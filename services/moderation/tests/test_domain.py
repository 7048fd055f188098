"""What a word may be, and what the words are that come with the platform."""

from __future__ import annotations

import pytest

from services.moderation import base_words
from services.moderation.domain import DEFAULTS, BadWord, UnknownCategory, WordAction, check_category, chosen, tidied

pytestmark = pytest.mark.unit


def test_words_are_kept_without_spaces_around_them_and_the_last_action_counts() -> None:
    words = [(" 代开发票\n", WordAction.MASK), ("QQ", WordAction.REVIEW), ("代开发票", WordAction.BLOCK)]
    assert tidied(words) == {"代开发票": WordAction.BLOCK, "QQ": WordAction.REVIEW}


@pytest.mark.parametrize("word", ["***", " ", "😀", "\u200b", "，。"])
def test_a_word_that_could_never_be_found_is_named(word: str) -> None:
    with pytest.raises(BadWord) as refused:
        tidied([("好", WordAction.MASK), (word, WordAction.MASK)])
    assert refused.value.violations[0][0] == "words[1].word"


def test_a_shop_that_has_not_chosen_does_what_is_usual() -> None:
    assert chosen({}) == dict(DEFAULTS)
    assert chosen({"politics": WordAction.BLOCK, "weapons": WordAction.OFF}) == {
        **DEFAULTS,
        "politics": WordAction.BLOCK,
        "weapons": WordAction.OFF,
    }


def test_a_category_that_is_gone_is_not_looked_for() -> None:
    assert "old" not in chosen({"old": WordAction.BLOCK})
    with pytest.raises(UnknownCategory):
        check_category("old")


def test_every_category_has_words_and_each_once() -> None:
    for words in base_words.read().values():
        assert len(words) > 50
        assert len(set(words)) == len(words)
        assert tidied((word, WordAction.MASK) for word in words)
