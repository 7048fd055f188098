"""Find the words of a list in a text, however they are spaced and written."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import ahocorasick_rs

from services.chat.screening.folding import fold, origins

# What ends a clause. Two clauses hold a word only when it is spelled out, as in 法，轮，功.
_STOPS: Final = frozenset('，。！？；：、…,!?;:\n\r\v\f\u2028\u2029"“”()（）[]【】《》「」')
# An automaton is built with the interpreter held, 30 ms for this many words; searching one more costs 1 µs.
_PART: Final = 20_000


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it was entered, and the key that decides what is done about it."""

    text: str
    key: str


class Hit(NamedTuple):
    """A word that was found at `text[start:end]`."""

    word: Word
    start: int
    end: int


class WordList:
    """Automata for the folds of the words, and the rules that tell a word from letters that follow each other.

    Building takes 0.8 s for 60,000 words: do it in a thread.
    """

    def __init__(self, words: Iterable[Word]) -> None:
        self._patterns: dict[str, _Pattern] = {}
        for word in words:
            if folded := fold(word.text):
                self._patterns.setdefault(folded, _Pattern(_separated(word.text))).words.append(word)
        folds = list(self._patterns)
        self._parts: list[tuple[ahocorasick_rs.AhoCorasick, Sequence[_Pattern]]] = []
        for first in range(0, len(folds), _PART):
            part = folds[first : first + _PART]
            automaton = ahocorasick_rs.AhoCorasick(
                part, implementation=ahocorasick_rs.Implementation.ContiguousNFA, store_patterns=False
            )
            self._parts.append((automaton, [self._patterns[folded] for folded in part]))

    def find(self, text: str, folded: str, wanted: Container[str]) -> list[Hit]:
        """Return the words with a wanted key in a text whose fold is given, also those within one another."""
        hits: list[Hit] = []
        place: _Place | None = None
        for automaton, patterns in self._parts:
            for index, start, end in automaton.find_matches_as_indexes(folded, overlapping=True):
                pattern = patterns[index]
                words = [word for word in pattern.words if word.key in wanted]
                if not words:
                    continue
                if place is None:
                    place = _Place(text, folded)
                if place.is_whole(start, end) and place.holds_together(start, end, pattern.open_at):
                    span = place.span(start, end)
                    hits.extend(Hit(word, *span) for word in words)
        return hits


class _Pattern:
    """The words with one fold. `open_at` has the indexes in it before which a word itself has a separator."""

    __slots__ = ("open_at", "words")

    def __init__(self, open_at: frozenset[int]) -> None:
        self.open_at = open_at
        self.words: list[Word] = []


# What stands between two characters of a fold: nothing that separates, a sign or a space, or what no word is written
# across; 0 where it was not read yet.
_NOTHING: Final = 1
_SIGN: Final = 2
_STOP: Final = 3


class _Place:
    """A text in which something was found: where the characters of its fold come from, and what stands between them.

    What stands between two characters is read once for all finds: a text may be full of them.
    """

    def __init__(self, text: str, folded: str) -> None:
        self._text = text
        self._folded = folded
        self._origins = origins(text)
        self._between = bytearray(len(folded))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where a find begins and ends in the text."""
        return self._origins[start], self._origins[end - 1] + 1

    def is_whole(self, start: int, end: int) -> bool:
        """Return whether a find begins and ends where a word can: not within a run of Latin letters and digits."""
        return not (self._runs_on(start) or self._runs_on(end))

    def _runs_on(self, index: int) -> bool:
        """Return whether the characters of the fold before and at an index belong together in the text."""
        if not 0 < index < len(self._folded):
            return False
        step = self._origins[index] - self._origins[index - 1]
        return step == 0 or (step == 1 and self._is_latin(index))

    def holds_together(self, start: int, end: int, open_at: frozenset[int]) -> bool:
        """Return whether what stands between the characters of a find separates them only to the eye.

        Invisible characters never separate. Signs and spaces do not, except that a space between Latin letters must be
        one of many: "f u c k" is a word, "is hit" has none. What ends a clause must be one of many as well.
        """
        gaps = stops = 0
        at = self._origins
        for index in range(start + 1, end):
            if at[index] - at[index - 1] > 1:
                between = self._between[index] or self._read(index)
                gaps += between != _NOTHING
                # Where the word itself has a separator, so may the text.
                stops += between == _STOP and index - start not in open_at
        return stops == 0 or gaps == end - start - 1 >= 2

    def _read(self, index: int) -> int:
        between = self._text[self._origins[index - 1] + 1 : self._origins[index]]
        if all(unicodedata.category(each) in {"Cf", "Mn", "Me"} for each in between):
            kind = _NOTHING
        elif not _STOPS.isdisjoint(between) or (self._is_latin(index) and any(each.isspace() for each in between)):
            kind = _STOP
        else:
            kind = _SIGN
        self._between[index] = kind
        return kind

    def _is_latin(self, index: int) -> bool:
        """Return whether the characters of the fold before and at an index are both Latin letters or digits."""
        return self._folded[index].isascii() and self._folded[index - 1].isascii()


def _separated(word: str) -> frozenset[int]:
    """Return the index, in the fold of a word, of each character that follows a separator of the word."""
    at = origins(word)
    return frozenset(index for index in range(1, len(at)) if at[index] - at[index - 1] > 1)
