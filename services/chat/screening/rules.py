"""What a shop does about the words in a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Final

from services.chat.screening.folding import fold
from services.chat.screening.word_list import Word, WordList

# Words of one message that are recorded.
MOST_FOUND: Final = 20


class Action(IntEnum):
    """What is done about a word; the stricter, the higher. The numbers are the contract's."""

    REVIEW = 1
    MASK = 2
    BLOCK = 3


# Keys of a shop's own words. Those of the platform's words are their categories, which never begin so.
_OWN: Final = {f"={action.name}": action for action in Action}


@dataclass(frozen=True, slots=True)
class Found:
    """A word that was found. `category` is empty for the shop's own list."""

    word: str
    category: str
    action: Action


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a text: the words, strictest first, and the text as it may be stored."""

    found: tuple[Found, ...]
    text: str

    @property
    def is_blocked(self) -> bool:
        """Return whether the text may not be stored at all."""
        return bool(self.found) and self.found[0].action is Action.BLOCK


@dataclass(frozen=True, slots=True)
class Rules:
    """The word lists of one shop, in one version."""

    version: int
    base: WordList
    own: WordList
    # By category of the platform's words; those without an entry are not looked for.
    categories: Mapping[str, Action]

    def judge(self, text: str) -> Verdict:
        """Look for words in a text."""
        folded = fold(text)
        hits = self.own.find(text, folded, _OWN)
        if self.categories:
            hits += self.base.find(text, folded, self.categories)
        if not hits:
            return Verdict((), text)
        found = {self._found(word) for word in {hit.word for hit in hits}}
        spans = [(hit.start, hit.end) for hit in hits if self._action(hit.word.key) is Action.MASK]
        strictest_first = sorted(found, key=lambda each: (-each.action, each.category, each.word))
        return Verdict(tuple(strictest_first[:MOST_FOUND]), masked(text, spans))

    def _action(self, key: str) -> Action:
        own = _OWN.get(key)
        return self.categories[key] if own is None else own

    def _found(self, word: Word) -> Found:
        return Found(word.text, "" if word.key in _OWN else word.key, self._action(word.key))


def own_words(words: Iterable[tuple[str, Action]]) -> WordList:
    """Return the list of a shop's own words."""
    return WordList(Word(text, f"={action.name}") for text, action in words)


def base_words(words: Mapping[str, Iterable[str]]) -> WordList:
    """Return the list of the platform's words, by category."""
    return WordList(Word(text, category) for category, texts in words.items() for text in texts)


def masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text with `*` for each character of the spans that is no space."""
    # How many spans begin less how many end before each character: spans may be many, and overlap.
    edges = [0] * (len(text) + 1)
    for start, end in spans:
        edges[start] += 1
        edges[end] -= 1
    depths = accumulate(edges)
    return "".join("*" if depth and not each.isspace() else each for each, depth in zip(text, depths, strict=False))
