"""The settings of shops in PostgreSQL. A shop without a row keeps to the defaults."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection

from mesh.stores.postgres import Database
from services.session.domain import Settings
from services.session.rows import fetch


class ShopSettings:
    """Reads and replaces a shop's settings."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of(self, tenant_id: str) -> Settings:
        """Return a shop's settings."""
        async with self._db.tenant(tenant_id) as conn:
            return await settings_of(conn, tenant_id)

    async def replace(self, tenant_id: str, settings: Settings) -> None:
        """Store a shop's settings."""
        async with self._db.tenant(tenant_id) as conn:
            await conn.execute(
                "INSERT INTO cs_session_settings"
                " (tenant_id, remind_after, close_after, return_within, ask_satisfaction) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (tenant_id) DO UPDATE SET remind_after = excluded.remind_after,"
                " close_after = excluded.close_after, return_within = excluded.return_within,"
                " ask_satisfaction = excluded.ask_satisfaction",
                (
                    tenant_id,
                    settings.remind_after,
                    settings.close_after,
                    settings.return_within,
                    settings.ask_satisfaction,
                ),
            )


async def settings_of(conn: AsyncConnection[Any], tenant_id: str) -> Settings:
    """Return a shop's settings, in the caller's transaction."""
    found = await fetch(
        conn,
        "SELECT remind_after, close_after, return_within, ask_satisfaction FROM cs_session_settings"
        " WHERE tenant_id = %(tenant)s",
        {"tenant": tenant_id},
    )
    return Settings(**found[0]) if found else Settings()
