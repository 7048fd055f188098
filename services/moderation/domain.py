"""The rules of word lists: what a word may be, and what a shop does that has never chosen."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import ClassVar, Final, Protocol

# Words of one shop's own list.
MOST_WORDS: Final = 100_000


class WordAction(IntEnum):
    """What is done about a word; the numbers are the contract's."""

    OFF = 0
    REVIEW = 1
    MASK = 2
    BLOCK = 3


# By category. Off is what holds words that mean something harmless as well: names of people, goods, services.
DEFAULTS: Final[Mapping[str, WordAction]] = {
    "advertising": WordAction.OFF,
    "drugs": WordAction.REVIEW,
    "politics": WordAction.OFF,
    "vulgar": WordAction.MASK,
    "weapons": WordAction.BLOCK,
    "websites": WordAction.BLOCK,
}


class Ids(Protocol):
    """Where ids come from."""

    def next(self) -> int:
        """Return a new id, greater than those before."""


class ModerationError(Exception):
    """A request that breaks a rule.

    The tree, with the reason each carries (a name of `octopus.errors.v1.Reason`)::

        ModerationError
        ├── UnknownCategory     NOT_FOUND
        ├── BadWord             INVALID_ARGUMENT
        └── TooManyWords        INVALID_ARGUMENT
    """

    reason: ClassVar[str]


class UnknownCategory(ModerationError):
    """No category has this name."""

    reason = "NOT_FOUND"


class BadWord(ModerationError):
    """A word could never be found."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, place: int) -> None:
        problem = "must have at least one letter or digit; signs and spaces are ignored when words are looked for"
        super().__init__(f"words[{place}].word {problem}")
        self.violations = ((f"words[{place}].word", problem),)


class TooManyWords(ModerationError):
    """The shop's list would be longer than allowed."""

    reason = "INVALID_ARGUMENT"

    def __init__(self) -> None:
        problem = f"a shop has at most {MOST_WORDS} words; remove some first"
        super().__init__(problem)
        self.violations = (("words", problem),)


@dataclass(frozen=True, slots=True)
class SensitiveWord:
    """A word of a shop's own list."""

    word: str
    action: WordAction
    changed_by: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class WordHit:
    """A word that was found in a text."""

    id: int
    session_id: int
    customer_id: int
    user_id: int
    word: str
    category: str
    action: WordAction
    found_at: datetime


def tidied(words: Iterable[tuple[str, WordAction]]) -> dict[str, WordAction]:
    """Return words as they are kept, with their actions: composed, without spaces around them, the last one counts.

    Raises:
        BadWord: one has neither letter nor digit.

    """
    kept: dict[str, WordAction] = {}
    for place, (word, action) in enumerate(words):
        tidy = unicodedata.normalize("NFC", word).strip()
        if not any(unicodedata.category(each)[0] in "LN" for each in unicodedata.normalize("NFKD", tidy)):
            raise BadWord(place)
        kept[tidy] = action
    return kept


def chosen(choices: Mapping[str, WordAction]) -> dict[str, WordAction]:
    """Return what a shop does about each category: what it has chosen, else the default."""
    return {category: choices.get(category, default) for category, default in DEFAULTS.items()}


def check_category(name: str) -> None:
    """Check that there is a category. Raise `UnknownCategory`."""
    if name not in DEFAULTS:
        raise UnknownCategory(f"there is no category {name!r}; ListBaseCategories has them")
