"""When the bot answers, what it replies otherwise, and when it does not reply. Pure: no I/O, no clock.

**Confidence.** The cosine of e5 lies between about 0.75 and 0.95 whatever is compared, and an unrelated question
may score as high as a good one in other words. What tells them apart better is how far the best entry stands out from
the ones behind it: a question that the shop can answer has one entry near it, an unrelated one is about as far from
all. So confidence = score + 2 x (score - mean score of the next five). The thresholds were chosen with
`services/bot/bench/confidence.py`, whose figures stand there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_LATIN_WORD: Final = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?")
# An English sentence has one of these; a Chinese one with brand names in it does not.
_ENGLISH: Final = re.compile(
    r"\b(?:the|a|an|is|are|am|was|do|does|did|can|could|how|what|when|where|which|who|why|i|my|me|you|your|it|this"
    r"|of|to|in|on|for|with|and|or|not|have|has|please|will|would)\b",
    re.IGNORECASE,
)

# What the score of the best entry must stand out from.
_OTHERS: Final = 5
_WEIGHT: Final = 2.0


class Language(Enum):
    """The languages of the bot's own words."""

    CHINESE = "zh"
    ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A FAQ entry that was found. `score` is the cosine similarity to the question; `locale` is BCP 47."""

    faq_id: int
    question: str
    answer: str
    locale: str
    score: float

    @property
    def language(self) -> Language | None:
        """Return the language it is written in, None for one that the bot does not support."""
        primary = self.locale.partition("-")[0].lower()
        return next((language for language in Language if language.value == primary), None)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The confidence that an answer needs; the module's docstring defines it."""

    # Answers with the best entry from this confidence on.
    answer: float = 0.93
    # Below that it names entries that may be meant, from this score on; English texts lie further apart than Chinese.
    suggest: float = 0.87
    suggest_english: float = 0.83
    # An entry in the question's language is preferred to a better one in another by up to this score.
    own_language: float = 0.03


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of a search: an answer, suggestions, or neither."""

    answer: Candidate | None = None
    suggestions: tuple[Candidate, ...] = ()


def language_of(text: str) -> Language:
    """Return the language to answer in; Chinese when the text does not decide it."""
    han = len(_HAN.findall(text))
    latin = len(_LATIN_WORD.findall(text))
    if not han:
        return Language.ENGLISH if latin else Language.CHINESE
    return Language.ENGLISH if latin > han and _ENGLISH.search(text) else Language.CHINESE


def confidence(candidates: Sequence[Candidate]) -> float:
    """Return the confidence that the first of the candidates, sorted by score, is what was asked for."""
    best, *rest = candidates
    others = [candidate.score for candidate in rest[:_OTHERS]]
    if not others:
        return best.score
    return best.score + _WEIGHT * (best.score - sum(others) / len(others))


def choose(candidates: Sequence[Candidate], language: Language, thresholds: Thresholds) -> Choice:
    """Choose among entries found for a question in a language."""
    if not candidates:
        return Choice()
    ranked = sorted(candidates, key=lambda candidate: -candidate.score)
    own = [candidate for candidate in ranked if candidate.language is language]
    # Compared among entries of one language: translations of each other stand near each other.
    if own and own[0].score >= ranked[0].score - thresholds.own_language:
        ranked = own
    else:
        ranked = [candidate for candidate in ranked if candidate.language is ranked[0].language]
    if confidence(ranked) >= thresholds.answer:
        return Choice(answer=ranked[0])
    least = thresholds.suggest_english if language is Language.ENGLISH else thresholds.suggest
    return Choice(suggestions=tuple(each for each in ranked[:3] if each.score >= least))


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: words, or a handoff to a person without any."""

    text: str = ""
    # The entries that the text is taken from, best first.
    sources: tuple[Candidate, ...] = ()
    offers_handoff: bool = False
    hands_over: bool = False


class Care(Enum):
    """How far a session is in the bot's care."""

    # Nobody else answers: the bot replies to everything.
    ALONE = "alone"
    # A person was requested and none has accepted: the bot posts answers that it finds, and nothing else.
    MEANWHILE = "meanwhile"
    # A person has accepted, or the session is over: the bot does not reply.
    OVER = "over"


def may_say(reply: Reply, care: Care) -> bool:
    """Return whether a reply is to be posted.

    Who waits for a person wants neither small talk nor "I do not know", and has asked for the person already.
    """
    if care is Care.MEANWHILE:
        return bool(reply.sources)
    return care is Care.ALONE
