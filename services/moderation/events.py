"""The events of chat: which words were found in texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from octopus.chat.v1.chat_events_pb2 import WordsFound

from mesh.bus import Bus, Delivery
from mesh.bus.streams import EVENT
from mesh.rpc.timestamps import from_wire
from mesh.stores.postgres import Database
from services.moderation import store
from services.moderation.domain import Ids, WordAction, WordHit


class Hits:
    """The record of what was found. Consumes `event.chat.<tenant>.<session>`; handling one again adds nothing."""

    SUBJECTS: ClassVar = ("event.chat.*.*",)

    def __init__(self, db: Database, ids: Ids) -> None:
        self._db = db
        self._ids = ids

    async def run(self, bus: Bus) -> None:
        """Consume until cancelled."""
        await bus.consume(EVENT, "moderation", self.SUBJECTS, WordsFound, self.note)

    async def note(self, delivery: Delivery[WordsFound]) -> None:
        """Keep the words of one message."""
        event = delivery.message
        found_at = from_wire(event.occurred_at)
        hits = [
            WordHit(
                id=self._ids.next(),
                session_id=event.session_id,
                customer_id=event.customer_id,
                user_id=event.user_id,
                word=found.word,
                category=found.category,
                action=WordAction(found.action),
                found_at=found_at,
            )
            for found in event.words
        ]
        async with self._db.tenant(event.tenant_id) as conn:
            await store.add_hits(conn, event.tenant_id, event.client_message_id, hits)

    async def page(self, tenant_id: str, *, before: int, limit: int, session_id: int) -> Sequence[WordHit]:
        """Return up to `limit` hits, newest first."""
        async with self._db.tenant(tenant_id) as conn:
            return await store.hits(conn, tenant_id, before=before, limit=limit, session_id=session_id)
