"""Operations on entries. An entry and its embeddings change in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.knowledge import search, store
from services.knowledge.domain import AlreadyExists, Content, Faq, Hit, NotFound, VersionConflict

if TYPE_CHECKING:
    from mesh.stores.postgres import Database
    from services.knowledge.embedding import Embedder

# Attempts before an operation that conflicts with concurrent changes is given up.
_ATTEMPTS: Final = 5


@dataclass(slots=True)
class Saved:
    """How many entries `Entries.save` created, updated and left unchanged."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


class _OvertakenError(Exception):
    """An entry changed between reading and writing it."""


class Entries:
    """The entries of all shops. Every method is about one shop."""

    def __init__(self, *, database: Database, embedder: Embedder, next_id: Callable[[], int]) -> None:
        self._database = database
        self._embedder = embedder
        self._next_id = next_id

    async def create(self, tenant_id: str, request_id: str, content: Content) -> Faq:
        """Add an entry; the same `request_id` returns the entry it created. Raise `AlreadyExists`."""
        async with self._database.tenant(tenant_id) as conn:
            if made := await store.by_request(conn, tenant_id, request_id):
                return made
        vectors = await self._embedder.passages(content.texts())
        faq_id = self._next_id()
        async with self._database.tenant(tenant_id) as conn:
            for faq in await store.insert(conn, tenant_id, {faq_id: content}, request_id=request_id):
                await store.embed(conn, tenant_id, {faq_id: vectors})
                return faq
            # Not inserted: the same request was served in the meantime, or the question has an entry.
            if made := await store.by_request(conn, tenant_id, request_id):
                return made
        raise AlreadyExists

    async def get(self, tenant_id: str, faq_id: int) -> Faq:
        """Return the entry. Raise `NotFound`."""
        async with self._database.tenant(tenant_id) as conn:
            if faq := await store.by_id(conn, tenant_id, faq_id):
                return faq
        raise NotFound(faq_id)

    async def page(
        self, tenant_id: str, *, after_id: int, limit: int, category: str = "", include_disabled: bool = False
    ) -> list[Faq]:
        """Return up to `limit` entries with an id above `after_id`, oldest first; an empty category means all."""
        async with self._database.tenant(tenant_id) as conn:
            return await store.page(
                conn, tenant_id, after_id=after_id, limit=limit, category=category, include_disabled=include_disabled
            )

    async def update(self, tenant_id: str, faq_id: int, version: int, content: Content) -> Faq:
        """Replace the content of an entry. Raise `NotFound`, `VersionConflict` and `AlreadyExists`."""
        current = await self.get(tenant_id, faq_id)
        if current.version != version:
            raise VersionConflict(faq_id, current.version)
        vectors = [] if current.disabled else await self._embedder.passages(content.texts())
        async with self._database.tenant(tenant_id) as conn:
            for faq in await store.replace(conn, tenant_id, {(faq_id, version): content}):
                await store.embed(conn, tenant_id, {faq_id: vectors})
                return faq
        raise VersionConflict(faq_id, (await self.get(tenant_id, faq_id)).version)

    async def set_disabled(self, tenant_id: str, faq_id: int, *, disabled: bool) -> Faq:
        """Take an entry out of searches, or put it back. Raise `NotFound` and `AlreadyExists`."""
        current = await self.get(tenant_id, faq_id)
        for _ in range(_ATTEMPTS):
            if current.disabled == disabled:
                return current
            vectors = [] if disabled else await self._embedder.passages(current.content.texts())
            async with self._database.tenant(tenant_id) as conn:
                if faq := await store.set_disabled(conn, tenant_id, faq_id, current.version, disabled=disabled):
                    await store.embed(conn, tenant_id, {faq_id: vectors})
                    return faq
            current = await self.get(tenant_id, faq_id)
        raise VersionConflict(faq_id, current.version)

    async def save(self, tenant_id: str, contents: Sequence[Content]) -> Saved:
        """Add the entries that are new and change those that differ, all or none.

        An entry is known by its locale and question, which must not repeat among `contents`. A disabled entry is
        changed too and stays disabled.
        """
        for _ in range(_ATTEMPTS):
            # Leaving the transaction by the exception undoes what the attempt had written.
            with suppress(_OvertakenError):
                return await self._save(tenant_id, contents)
        raise AlreadyExists

    async def _save(self, tenant_id: str, contents: Sequence[Content]) -> Saved:
        """Make one attempt. Raise `_OvertakenError` when one of the entries was changed in the meantime."""
        async with self._database.tenant(tenant_id) as conn:
            found = await store.by_questions(conn, tenant_id, [(each.locale, each.question) for each in contents])
        known = {(faq.content.locale, faq.content.question): faq for faq in found}
        created: dict[int, Content] = {}
        changed: dict[tuple[int, int], Content] = {}
        texts: dict[int, list[str]] = {}
        for content in contents:
            faq = known.get((content.locale, content.question))
            if faq is None:
                faq_id = self._next_id()
                created[faq_id] = content
                texts[faq_id] = content.texts()
            elif faq.content != content:
                changed[faq.id, faq.version] = content
                texts[faq.id] = [] if faq.disabled else content.texts()
        if not texts:
            return Saved(unchanged=len(contents))
        vectors = iter(await self._embedder.passages([text for each in texts.values() for text in each]))
        embeddings = {faq_id: [next(vectors) for _ in each] for faq_id, each in texts.items()}
        async with self._database.tenant(tenant_id) as conn:
            saved = [
                *(await store.insert(conn, tenant_id, created) if created else ()),
                *(await store.replace(conn, tenant_id, changed) if changed else ()),
            ]
            if len(saved) != len(texts):
                raise _OvertakenError
            await store.embed(conn, tenant_id, embeddings)
        return Saved(len(created), len(changed), len(contents) - len(texts))

    async def search(self, tenant_id: str, query: str, limit: int) -> list[Hit]:
        """Return the enabled entries nearest in meaning to `query`, best first."""
        vector = await self._embedder.query(query)
        async with self._database.tenant(tenant_id) as conn:
            return await search.nearest(conn, tenant_id, vector, limit)
