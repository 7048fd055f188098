"""Ways of writing that look or read alike have one fold, and every position in it leads back to the text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.screening.folding import fold, origins

pytestmark = pytest.mark.unit

# The same texts in every run.
reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=200)

# Everything but lone surrogates, which no text has that came over the wire.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), max_size=20)
LETTERS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=30)


@reproducible
@given(TEXTS)
def test_a_fold_folds_to_itself(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@reproducible
@given(TEXTS, TEXTS)
def test_the_fold_of_two_texts_is_their_folds(one: str, other: str) -> None:
    assert fold(one + other) == fold(one) + fold(other)


@reproducible
@given(TEXTS)
def test_normal_forms_make_no_difference(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == fold(text)


@reproducible
@given(TEXTS)
def test_a_fold_has_letters_and_digits_only(text: str) -> None:
    assert all(unicodedata.category(each)[0] in "LN" for each in fold(text))


@reproducible
@given(TEXTS)
def test_each_character_of_a_fold_comes_from_the_character_it_names(text: str) -> None:
    at = origins(text)
    assert len(at) == len(fold(text))
    assert at == sorted(at)
    assert all(each in fold(text[index]) for each, index in zip(fold(text), at, strict=True))


@reproducible
@given(LETTERS)
def test_case_width_and_circles_make_no_difference(word: str) -> None:
    wide = "".join(chr(ord(each) + 0xFEE0) for each in word)
    circled = "".join(chr(0x24D0 + ord(each) - ord("a")) if each.isalpha() else each for each in word)
    assert fold(word) == fold(word.upper()) == fold(wide) == fold(circled) == word


@reproducible
@given(HAN, st.lists(st.sampled_from(" \t　*-_.·|/~+\u200b\u200d\ufe0f😀"), max_size=20))
def test_what_stands_between_makes_no_difference(word: str, signs: list[str]) -> None:
    spaced = "".join(sign + each for sign, each in zip(signs, word, strict=False)) + word[len(signs) :]
    assert fold(spaced) == fold(word)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ＱＱ", "qq"),
        ("代開發票", "代开发票"),
        ("賭 博", "赌博"),
        ("раураl", "paypal"),  # Cyrillic
        ("ρorn", "porn"),  # Greek
        ("𝓯𝓾𝓬𝓴", "fuck"),
        ("🅵🆄🅲🅺", "fuck"),
        ("🇫🇺🇨🇰", "fuck"),
        ("f̶u̶c̶k̶", "fuck"),
        ("fúçk", "fuck"),
        ("①②③", "123"),
        ("⽅", "方"),  # a radical
        ("Straße", "strasse"),
    ],
)
def test_known_disguises(written: str, meant: str) -> None:
    assert fold(written) == meant
