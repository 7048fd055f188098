"""Make a reply to a message."""

from __future__ import annotations

from typing import Final, Protocol

import structlog
import tenacity

from mesh.errors import Refused
from mesh.rpc.metadata import Metadata
from services.bot import wording
from services.bot.domain import Candidate, Language, Reply, Thresholds, choose, language_of
from services.bot.intent import Intent, understand

_log = structlog.get_logger(__name__)

# So many entries tell whether the best one stands out, after those in another language are put aside.
_FOUND: Final = 20


class Knowledge(Protocol):
    """The shop's knowledge."""

    async def search(self, query: str, limit: int, caller: Metadata) -> list[Candidate]:
        """Return the entries nearest in meaning to the query, best first. Raise `Refused`."""
        ...


class Answering:
    """Replies to single messages; earlier messages play no part."""

    def __init__(self, knowledge: Knowledge, thresholds: Thresholds) -> None:
        self._knowledge = knowledge
        self._thresholds = thresholds

    async def reply(self, text: str, caller: Metadata) -> Reply:
        """Return the reply to a message. There is always one: for a failed search it is an apology."""
        language = language_of(text)
        intent, question = understand(text)
        if intent is Intent.PERSON:
            return Reply(hands_over=True)
        if intent is not Intent.QUESTION:
            return Reply(wording.POLITE[intent][language], offers_handoff=intent in wording.OFFERS)
        found = await self._search(question, caller)
        if found is None:
            return Reply(wording.out_of_reach(language), offers_handoff=True)
        choice = choose(found, language, self._thresholds)
        if choice.answer is not None:
            return Reply(choice.answer.answer, sources=(choice.answer,))
        suggestions = [candidate.question for candidate in choice.suggestions if _fits(candidate, language)]
        return Reply(wording.unsure(language, suggestions), offers_handoff=True)

    async def _search(self, question: str, caller: Metadata) -> list[Candidate] | None:
        """Return what was found; None when no attempt reached the knowledge service."""
        try:
            return await self._found(question, caller)
        except Refused as refused:
            _log.warning("knowledge not searched", reason=refused.reason_name)
            return None

    # A shopper waits: two more attempts, after 0.2 and 0.6 seconds.
    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(Refused),
        wait=tenacity.wait_exponential(multiplier=0.2, exp_base=3),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    async def _found(self, question: str, caller: Metadata) -> list[Candidate]:
        return await self._knowledge.search(question, _FOUND, caller)


def _fits(candidate: Candidate, language: Language) -> bool:
    """Return whether a suggestion is in the language that the shopper writes."""
    return candidate.language is language
