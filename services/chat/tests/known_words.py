"""The moderation service as far as chat asks it; has the words that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused
from services.chat.screening.lists import ShopList
from services.chat.screening.rules import Action


class KnownWords:
    """Word lists in memory, with the faults that a test asks for."""

    def __init__(self) -> None:
        self.version = 0
        self.words: dict[str, Action] = {}
        self.base_words: dict[str, list[str]] = {}
        self.categories: dict[str, Action] = {}
        # How often the words, and the platform's words, were sent.
        self.sent = 0
        self.base_sent = 0
        # It is not there.
        self.away = False
        # Cleared, no answer comes until it is set again.
        self.answering = asyncio.Event()
        self.answering.set()

    def set(self, **words: Action) -> None:
        """Replace the shop's own words."""
        self.words = words
        self.version += 1

    async def base(self, tenant_id: str) -> Mapping[str, Sequence[str]]:
        """Return the platform's words."""
        await self._answer()
        self.base_sent += 1
        return self.base_words

    async def shop(self, tenant_id: str, known_version: int | None) -> ShopList:
        """Return the shop's words, unless they are known."""
        await self._answer()
        known = known_version == self.version
        self.sent += not known
        sizes = {category: len(words) for category, words in self.base_words.items()}
        return ShopList(self.version, None if known else list(self.words.items()), dict(self.categories), sizes)

    async def _answer(self) -> None:
        await self.answering.wait()
        if self.away:
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "moderation is not there")
