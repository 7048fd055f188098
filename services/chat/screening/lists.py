"""Keep the word lists of the shops that talk, and read them again when they change.

A check never waits for the moderation service, except the first one in a shop, for a second. While the service cannot
be reached, texts are checked with the last list that was read, or not at all where none was; the log and metrics say
so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from mesh.telemetry.outage import Outage
from services.chat import metrics
from services.chat.screening.rules import Action, Rules, base_words, own_words
from services.chat.screening.word_list import WordList

_log = structlog.get_logger(__name__)

# How long the first check in a shop waits, in seconds.
_FIRST_WAIT_S: Final = 1.0
# A list that was not confirmed for this long is asked for again: a change may have gone unheard.
MAX_AGE_S: Final = 30.0
# After this without a check, a shop's list is dropped.
_UNUSED_S: Final = 3600.0
# How often `refresh` is called, in seconds.
REFRESH_S: Final = 5.0
# The least pause between two reads of one shop's list.
_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class ShopList:
    """What a shop checks. `words` is None when the version is the one that was known."""

    version: int
    words: Sequence[tuple[str, Action]] | None
    categories: Mapping[str, Action]
    # How many words the platform's list has, by category.
    base_sizes: Mapping[str, int]


class Source(Protocol):
    """Where the lists come from."""

    async def base(self, tenant_id: str) -> Mapping[str, Sequence[str]]:
        """Return the words that come with the platform, by category."""

    async def shop(self, tenant_id: str, known_version: int | None) -> ShopList:
        """Return what a shop checks."""


class _Shop:
    """One shop: its rules, once they were read, and the task that reads them."""

    def __init__(self, now: float) -> None:
        self.rules: Rules | None = None
        self.read_at = now
        self.used_at = now
        self.reading: asyncio.Task[None] | None = None
        # It changed again while it was being read.
        self.again = False


class WordLists:
    """The rules of each shop whose texts are checked here."""

    def __init__(self, source: Source, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._monotonic = monotonic
        self._shops: dict[str, _Shop] = {}
        self._base = WordList(())
        self._base_sizes: Mapping[str, int] = {}
        self._base_lock = asyncio.Lock()
        self._outage = Outage(_log, "word lists cannot be read, checking with the last ones", "word lists read again")

    async def of(self, tenant_id: str) -> Rules | None:
        """Return the rules of a shop; None when there are none yet and the moderation service does not answer."""
        shop = self._shops.get(tenant_id)
        if shop is not None:
            shop.used_at = self._monotonic()
            if shop.rules is not None or shop.reading is None:
                return shop.rules
            # Others wait for it already, or it takes too long: waiting is only for the first read.
        else:
            shop = self._shops[tenant_id] = _Shop(self._monotonic())
            self._read(tenant_id, shop)
        reading = shop.reading
        if reading is not None and self._monotonic() - shop.read_at < _FIRST_WAIT_S:
            await asyncio.wait((reading,), timeout=_FIRST_WAIT_S)
        return shop.rules

    def changed(self, tenant_id: str) -> None:
        """Read a shop's list again, if it is in use here."""
        shop = self._shops.get(tenant_id)
        if shop is None:
            return
        if shop.reading is not None:
            shop.again = True
        else:
            self._read(tenant_id, shop)

    def all_changed(self) -> None:
        """Read all lists again: changes may have gone unheard."""
        for tenant_id in list(self._shops):
            self.changed(tenant_id)

    async def refresh(self) -> None:
        """Read again what is old or could not be read, and drop what nobody uses. Call it every `REFRESH_S`."""
        now = self._monotonic()
        for tenant_id, shop in list(self._shops.items()):
            if shop.reading is not None:
                continue
            if now - shop.used_at > _UNUSED_S:
                del self._shops[tenant_id]
            elif shop.rules is None or now - shop.read_at > MAX_AGE_S:
                self._read(tenant_id, shop)
        old = sum(shop.rules is None or now - shop.read_at > 2 * MAX_AGE_S for shop in self._shops.values())
        metrics.OLD_WORD_LISTS.set(old)

    async def close(self) -> None:
        """Cancel what is being read."""
        tasks = [shop.reading for shop in self._shops.values() if shop.reading is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _read(self, tenant_id: str, shop: _Shop) -> None:
        shop.again = False
        shop.reading = asyncio.create_task(self._keep_reading(tenant_id, shop), name=f"word list of {tenant_id}")

    async def _keep_reading(self, tenant_id: str, shop: _Shop) -> None:
        try:
            while True:
                shop.again = False
                began = self._monotonic()
                try:
                    shop.rules = await self._rules(tenant_id, shop.rules)
                except Exception as error:  # noqa: BLE001  # whatever it is, texts go on being checked with the last list
                    self._outage.failed(error)
                    return
                shop.read_at = self._monotonic()
                self._outage.succeeded()
                if not shop.again:
                    return
                # While many changes arrive, at most half of the time goes into reading them.
                await asyncio.sleep(max(_PAUSE_S, shop.read_at - began))
        finally:
            shop.reading = None

    async def _rules(self, tenant_id: str, last: Rules | None) -> Rules:
        listed = await self._source.shop(tenant_id, None if last is None else last.version)
        async with self._base_lock:
            if listed.base_sizes != self._base_sizes:
                words = await self._source.base(tenant_id)
                self._base = await asyncio.to_thread(base_words, words)
                self._base_sizes = {category: len(texts) for category, texts in words.items()}
            base = self._base
        if listed.words is None and last is not None:
            own = last.own
        else:
            own = await asyncio.to_thread(own_words, listed.words or ())
        return Rules(listed.version, base, own, listed.categories)
