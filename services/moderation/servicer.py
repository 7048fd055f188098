"""ModerationService on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

import grpc.aio
from octopus.moderation.v1 import moderation_service_pb2 as pb
from octopus.moderation.v1 import moderation_service_pb2_grpc, words_pb2

from mesh.rpc import principal
from mesh.rpc.paging import Paging
from mesh.rpc.timestamps import to_wire
from services.moderation import domain
from services.moderation.domain import SensitiveWord, WordAction, WordHit
from services.moderation.events import Hits
from services.moderation.words import PAGE, Words

_WORDS: Final = Paging("ListWords", ("",))
_CHECKED: Final = Paging("GetWordList", ("",), size=PAGE)
_HITS: Final = Paging("ListWordHits", ((1 << 63) - 1,))

Q = TypeVar("Q")
R = TypeVar("R")
Context: TypeAlias = "grpc.aio.ServicerContext[Q, R]"


class ModerationServicer(moderation_service_pb2_grpc.ModerationServiceServicer):
    """Word lists, and what was found. `base` has the words that come with the platform."""

    def __init__(self, words: Words, hits: Hits, base: Mapping[str, Sequence[str]]) -> None:
        self._words = words
        self._hits = hits
        self._base = base

    async def ListWords(
        self, request: pb.ListWordsRequest, context: Context[pb.ListWordsRequest, pb.ListWordsResponse]
    ) -> pb.ListWordsResponse:
        """Return a page of the shop's own words."""
        size, (after,) = _WORDS.size(request.page_size), _WORDS.position(request.page_token)
        found, total = await self._words.page(
            principal.current().tenant_id, after=after, limit=size + 1, containing=request.containing
        )
        page, following = _WORDS.page(found, size, lambda word: (word.word,))
        return pb.ListWordsResponse(words=map(_word, page), next_page_token=following, total=total)

    async def PutWords(
        self, request: pb.PutWordsRequest, context: Context[pb.PutWordsRequest, pb.PutWordsResponse]
    ) -> pb.PutWordsResponse:
        """Add words or change their action."""
        admin = principal.current()
        version, total = await self._words.put(
            admin.tenant_id, ((word.word, WordAction(word.action)) for word in request.words), admin.user_id
        )
        return pb.PutWordsResponse(version=version, total=total)

    async def RemoveWords(
        self, request: pb.RemoveWordsRequest, context: Context[pb.RemoveWordsRequest, pb.RemoveWordsResponse]
    ) -> pb.RemoveWordsResponse:
        """Remove words."""
        version, total = await self._words.remove(principal.current().tenant_id, request.words)
        return pb.RemoveWordsResponse(version=version, total=total)

    async def ListBaseCategories(
        self,
        request: pb.ListBaseCategoriesRequest,
        context: Context[pb.ListBaseCategoriesRequest, pb.ListBaseCategoriesResponse],
    ) -> pb.ListBaseCategoriesResponse:
        """Return the categories and what the shop does about them."""
        actions = await self._words.categories(principal.current().tenant_id)
        return pb.ListBaseCategoriesResponse(categories=self._categories(actions))

    async def SetBaseCategory(
        self,
        request: pb.SetBaseCategoryRequest,
        context: Context[pb.SetBaseCategoryRequest, pb.SetBaseCategoryResponse],
    ) -> pb.SetBaseCategoryResponse:
        """Choose what the shop does about a category."""
        admin, action = principal.current(), WordAction(request.action)
        await self._words.choose(admin.tenant_id, request.name, action, admin.user_id)
        return pb.SetBaseCategoryResponse(category=self._categories({request.name: action})[0])

    async def ListWordHits(
        self, request: pb.ListWordHitsRequest, context: Context[pb.ListWordHitsRequest, pb.ListWordHitsResponse]
    ) -> pb.ListWordHitsResponse:
        """Return a page of what was found."""
        size, (before,) = _HITS.size(request.page_size), _HITS.position(request.page_token)
        found = await self._hits.page(
            principal.current().tenant_id, before=before, limit=size + 1, session_id=request.session_id
        )
        page, following = _HITS.page(found, size, lambda hit: (hit.id,))
        return pb.ListWordHitsResponse(hits=map(_hit, page), next_page_token=following)

    async def GetWordList(
        self, request: pb.GetWordListRequest, context: Context[pb.GetWordListRequest, pb.GetWordListResponse]
    ) -> pb.GetWordListResponse:
        """Return a page of what is checked in the shop."""
        (after,) = _CHECKED.position(request.page_token)
        known = request.known_version if request.HasField("known_version") else None
        listed = await self._words.checked(principal.current().tenant_id, after=after, known_version=known)
        page, following = _CHECKED.page(listed.words, PAGE, lambda word: (word.word,))
        return pb.GetWordListResponse(
            version=listed.version,
            words=[words_pb2.SensitiveWord(word=each.word, action=_action(each.action)) for each in page],
            categories=self._categories(listed.actions),
            next_page_token=following,
        )

    async def ListBaseWords(
        self, request: pb.ListBaseWordsRequest, context: Context[pb.ListBaseWordsRequest, pb.ListBaseWordsResponse]
    ) -> pb.ListBaseWordsResponse:
        """Return the words that come with the platform."""
        return pb.ListBaseWordsResponse(
            categories=[pb.BaseWords(category=category, words=words) for category, words in self._base.items()]
        )

    def _categories(self, actions: Mapping[str, WordAction]) -> list[words_pb2.BaseCategory]:
        return [
            words_pb2.BaseCategory(
                name=name,
                words=len(self._base[name]),
                action=_action(action),
                default_action=_action(domain.DEFAULTS[name]),
            )
            for name, action in sorted(actions.items())
        ]


def _action(action: WordAction) -> words_pb2.WordAction.ValueType:
    return words_pb2.WordAction.ValueType(int(action))


def _word(word: SensitiveWord) -> words_pb2.SensitiveWord:
    return words_pb2.SensitiveWord(
        word=word.word,
        action=_action(WordAction(word.action)),
        changed_by=word.changed_by,
        changed_at=to_wire(word.changed_at),
    )


def _hit(hit: WordHit) -> words_pb2.WordHit:
    return words_pb2.WordHit(
        id=hit.id,
        session_id=hit.session_id,
        customer_id=hit.customer_id,
        user_id=hit.user_id,
        word=hit.word,
        category=hit.category,
        action=_action(WordAction(hit.action)),
        found_at=to_wire(hit.found_at),
    )
