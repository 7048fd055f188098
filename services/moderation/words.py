"""The shops' word lists: reading them, changing them, and telling those who check texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from octopus.moderation.v1 import moderation_events_pb2 as events

from mesh.bus.outbox import Outbox
from mesh.stores.postgres import Connection, Database
from services.moderation import domain, store
from services.moderation.domain import Ids, SensitiveWord, WordAction

# Words of one page of what chat reads: about 0.5 MB.
PAGE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of what is checked in a shop."""

    version: int
    words: Sequence[SensitiveWord]
    actions: Mapping[str, WordAction]


class Words:
    """What the shops do not want to be said."""

    def __init__(self, db: Database, outbox: Outbox, ids: Ids) -> None:
        self._db = db
        self._outbox = outbox
        self._ids = ids

    async def page(
        self, tenant_id: str, *, after: str, limit: int, containing: str
    ) -> tuple[Sequence[SensitiveWord], int]:
        """Return up to `limit` words after a word, and how many there are in all."""
        async with self._db.tenant(tenant_id) as conn:
            found = await store.words(conn, tenant_id, after=after, limit=limit, containing=containing)
            return found, await store.count(conn, tenant_id)

    async def put(self, tenant_id: str, words: Iterable[tuple[str, WordAction]], changed_by: int) -> tuple[int, int]:
        """Add words or change their action; return the version of the list and its length.

        Raises:
            BadWord: one has neither letter nor digit.
            TooManyWords: the list would be too long.

        """
        tidied = domain.tidied(words)
        async with self._db.tenant(tenant_id) as conn:
            version = await store.next_version(conn, tenant_id)
            await store.put(conn, tenant_id, tidied, changed_by)
            total = await store.count(conn, tenant_id)
            if total > domain.MOST_WORDS:
                raise domain.TooManyWords
            await self._announce(conn, tenant_id, version)
        return version, total

    async def remove(self, tenant_id: str, words: Sequence[str]) -> tuple[int, int]:
        """Remove words; return the version of the list and its length."""
        async with self._db.tenant(tenant_id) as conn:
            version = await store.next_version(conn, tenant_id)
            await store.remove(conn, tenant_id, words)
            total = await store.count(conn, tenant_id)
            await self._announce(conn, tenant_id, version)
        return version, total

    async def categories(self, tenant_id: str) -> Mapping[str, WordAction]:
        """Return what the shop does about each category."""
        async with self._db.tenant(tenant_id) as conn:
            return domain.chosen(await store.choices(conn, tenant_id))

    async def choose(self, tenant_id: str, category: str, action: WordAction, changed_by: int) -> None:
        """Choose what the shop does about a category. Raise `UnknownCategory`."""
        domain.check_category(category)
        async with self._db.tenant(tenant_id) as conn:
            version = await store.next_version(conn, tenant_id)
            await store.choose(conn, tenant_id, category, action, changed_by)
            await self._announce(conn, tenant_id, version)

    async def checked(self, tenant_id: str, *, after: str, known_version: int | None) -> Listed:
        """Return a page of what is checked, one word longer when another page follows.

        It has no words when `known_version` is the list's.
        """
        async with self._db.tenant(tenant_id) as conn:
            # First the version: what is changed in between is then read twice, not missed.
            version = await store.version(conn, tenant_id)
            actions = domain.chosen(await store.choices(conn, tenant_id))
            if version == known_version:
                return Listed(version, (), actions)
            return Listed(version, await store.words(conn, tenant_id, after=after, limit=PAGE + 1), actions)

    async def _announce(self, conn: Connection, tenant_id: str, version: int) -> None:
        event_id = self._ids.next()
        event = events.WordListChanged(event_id=event_id, tenant_id=tenant_id, version=version)
        event.occurred_at.GetCurrentTime()
        await self._outbox.add(conn, f"event.moderation.{tenant_id}.words", event, str(event_id))
