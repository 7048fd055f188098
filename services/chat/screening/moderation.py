"""Read word lists from the moderation service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import grpc.aio
from octopus.moderation.v1 import moderation_service_pb2 as pb
from octopus.moderation.v1 import moderation_service_pb2_grpc

from mesh.rpc.metadata import as_service
from services.chat.screening.lists import ShopList
from services.chat.screening.rules import Action

_TIMEOUT_S: Final = 5.0


class ModerationClient:
    """The word lists as the moderation service has them. Raises `Refused`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = moderation_service_pb2_grpc.ModerationServiceStub(channel)

    async def base(self, tenant_id: str) -> Mapping[str, Sequence[str]]:
        """Return the words that come with the platform, by category."""
        response = await self._stub.ListBaseWords(
            pb.ListBaseWordsRequest(), metadata=as_service(tenant_id), timeout=_TIMEOUT_S
        )
        return {each.category: list(each.words) for each in response.categories}

    async def shop(self, tenant_id: str, known_version: int | None) -> ShopList:
        """Return what a shop checks. Begin anew when the list changes between two pages."""
        words: list[tuple[str, Action]] = []
        first = page = await self._page(tenant_id, "", known_version)
        while True:
            words += [(each.word, Action(each.action)) for each in page.words]
            if not page.next_page_token:
                break
            page = await self._page(tenant_id, page.next_page_token, None)
            if page.version != first.version:
                words.clear()
                first = page = await self._page(tenant_id, "", None)
        return ShopList(
            version=first.version,
            words=None if first.version == known_version else words,
            categories={each.name: Action(each.action) for each in first.categories if each.action},
            base_sizes={each.name: each.words for each in first.categories},
        )

    async def _page(self, tenant_id: str, token: str, known_version: int | None) -> pb.GetWordListResponse:
        request = pb.GetWordListRequest(page_token=token, known_version=known_version)
        return await self._stub.GetWordList(request, metadata=as_service(tenant_id), timeout=_TIMEOUT_S)
