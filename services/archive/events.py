"""What the archive consumes: the log of all conversations. It publishes nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from octopus.chat.v1 import chat_events_pb2

from mesh.bus import Delivery, Poison
from mesh.stores.postgres import Database
from services.archive import domain, entries
from services.archive.metrics import ARCHIVED, BEHIND, REPEATED
from services.archive.store import ArchiveStore

_log = structlog.get_logger(__name__)


class Archivist:
    """Writes what the bus delivers. The bus repeats what is not written, and repetition changes nothing."""

    def __init__(self, *, db: Database, store: ArchiveStore) -> None:
        self._db = db
        self._store = store

    async def keep(self, deliveries: list[Delivery[chat_events_pb2.LogEntry]]) -> None:
        """Keep a batch of log entries, one transaction for each shop.

        A message whose author's id is there already, for the same session and side, is a resend that came into the log
        a second time: the first one stays. Poison for an entry that is malformed, or at whose position another message
        stands; the bus then hands the batch over entry by entry, and parks that one.
        """
        messages = [entries.archived(delivery) for delivery in deliveries]
        for tenant_id, group in domain.by_tenant(messages).items():
            async with self._db.tenant(tenant_id) as conn:
                if await self._store.add(conn, tenant_id, group) == len(group):
                    continue
                # Rare: something was there already.
                left_out = domain.left_out(group, await self._store.known(conn, tenant_id, group))
                posted = await self._store.posted(conn, tenant_id, left_out) if left_out else set()
            collided = domain.collided(left_out, posted)
            if repeated := len(left_out) - len(collided):
                REPEATED.inc(repeated)
                _log.warning("repeated messages left out", tenant=tenant_id, count=repeated)
            if collided:
                raise Poison(
                    f"another message stands at seq {collided[0].seq} of session {collided[0].session_id}: the stream"
                    " LOG was lost and counts anew. Set its first sequence above the highest in cs_message"
                )

        ARCHIVED.inc(len(deliveries))
        BEHIND.set((datetime.now(UTC) - max(delivery.time for delivery in deliveries)).total_seconds())
