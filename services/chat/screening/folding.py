"""Fold a text so that ways of writing a word that look or read alike become the same.

The fold of a text is the folds of its characters, one after the other, so that every position in it leads back to a
character of the text. A character is decomposed (NFKD: full width, circled, mathematical letters) and loses marks and
case, look-alikes of other scripts become Latin letters, traditional characters become simplified ones, and what is
neither letter nor digit becomes nothing: spaces, punctuation, emoji, invisible characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Final

import opencc

# Lower-case letters of other scripts that look like a Latin one, after the confusables of Unicode (UTS 39), restricted
# to Latin, Cyrillic, Greek, Coptic, Armenian, Cherokee and Lisu. A letter looks like its capital where its own form
# has no likeness, so that case makes no difference.
_LIKENESS: Final = {
    "a": "ɑαаᎪꓮ",
    "b": "ƅβвьᏏᏴꓐꞵ",
    "c": "ϲсᏟᴄⲥꓚ",
    "d": "ԁᎠᏧꓒꓓ",
    "e": "εеҽᎬꓰꬲ",
    "f": "ϝքẝꓝꞙꬵ",
    "g": "ƍɡԍցᏀᏳᶃꓖ",
    "h": "ηнһհᎻᏂⲏꓧ",
    "i": "ıɩɪιіӏᎥꙇ",
    "j": "ʝϳјᎫꓙ",
    "k": "κкᏦⲕꓗ",
    "l": "ǀᏞⲓⳑꓡꓲ",
    "m": "μϻмᎷⲙꓟ",
    "n": "ոռⲛꓠ",
    "o": "οσоօᴏᴑⲟꓳꬽ",
    "p": "ρрᏢⲣꓑ",
    "q": "ԛգզ",
    "r": "ʀгᎡᎱᏒᴦⲅꓣꭇꭈ",
    "s": "ƽѕտᏕᏚꓢꜱ",
    "t": "τтᎢⲧꓔ",
    "u": "ʋυսᴜꓴꞟꭎꭒ",
    "v": "νѵᏙᴠꓦ",
    "w": "ɯѡԝաᎳᏔᴡꓪ",
    "x": "χхⲭꓫꭓ",
    "y": "ɣʏγуүᎩᎽᶌỿⲩꓬꭚ",
    "z": "ζᏃᴢꓜ",
}
_LATIN: Final = {like: letter for letter, likes in _LIKENESS.items() for like in likes}
# Letters in boxes and discs, which do not decompose: the code of each alphabet's A.
_BOXED: Final = (0x1F150, 0x1F170, 0x1F1E6)
# Folds that are kept: more than the characters anybody writes, fewer than an attacker would like to fill memory with.
_MOST_FOLDS: Final = 150_000


class Folds(dict[int, str]):
    """The fold of each character by its code, made when it is first met: a table for `str.translate`."""

    def __init__(self, simplify: Callable[[str], str]) -> None:
        super().__init__()
        self._simplify = simplify

    def __missing__(self, code: int) -> str:
        fold = self._fold(chr(code))
        if len(self) < _MOST_FOLDS:
            self[code] = fold
        return fold

    def _fold(self, character: str) -> str:
        code = ord(character)
        for first in _BOXED:
            if first <= code < first + 26:
                return chr(ord("a") + code - first)
        lower = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
        latin = "".join(_LATIN.get(each, each) for each in lower)
        return "".join(self._simplify(each) for each in latin if unicodedata.category(each)[0] in "LN")


@cache
def folds() -> Folds:
    """Return the table of this process; reads OpenCC's dictionaries the first time."""
    return Folds(opencc.OpenCC("t2s").convert)


def fold(text: str) -> str:
    """Return the fold of a text."""
    return text.translate(folds())


def origins(text: str) -> list[int]:
    """Return, for each character of the fold, the index of the character of the text that it comes from."""
    table = folds()
    return [index for index, character in enumerate(text) for _ in table[ord(character)]]
