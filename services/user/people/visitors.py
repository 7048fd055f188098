"""Delete visitors who never began a conversation, so that a shop cannot be filled with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.stores.postgres import Database
from services.user import metrics
from services.user.people import visitor_store

_log = structlog.get_logger(__name__)

# Visitors deleted in one transaction.
_BATCH = 500


class Visitors:
    """Note which visitors began a conversation, and delete the others."""

    def __init__(self, *, db: Database, keep: timedelta, clock: Callable[[], datetime]) -> None:
        """Take for how long to keep a visitor who says nothing."""
        self._db = db
        self._keep = keep
        self._clock = clock

    async def spoke(self, tenant_id: str, user_id: int) -> None:
        """Keep a visitor: there is a conversation now. Anybody else stays as they are."""
        async with self._db.tenant(tenant_id) as conn:
            await visitor_store.spoke(conn, tenant_id, user_id)

    async def purge(self) -> int:
        """Delete visitors without messages for this long, and return their number."""
        before = self._clock() - self._keep
        async with self._db.every_tenant() as conn:
            tenants = await visitor_store.tenants_with_silent(conn, before)
        deleted = 0
        for tenant_id in tenants:
            while True:
                async with self._db.tenant(tenant_id) as conn:
                    count = await visitor_store.delete_silent(conn, tenant_id, before, limit=_BATCH)
                deleted += count
                if count < _BATCH:
                    break
        if deleted:
            metrics.VISITORS_PURGED.inc(deleted)
            _log.info("silent visitors deleted", deleted=deleted)
        return deleted
