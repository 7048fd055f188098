"""Revoke every token of a user: durable with the change that demands it, known to every server within seconds.

The generation of the user's tokens grows in the caller's transaction, which also revokes the refresh tokens and puts
two messages into the outbox: the event for services, and the entry of the NATS KV bucket `revocations` that every
server watches. When the bus has lost its data, the recent ones are published again from the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from octopus.user.v1 import user_events_pb2 as pb

from mesh.bus import BusError, KeyValue
from mesh.bus.errors import Conflict
from mesh.bus.ids import IdSource
from mesh.bus.outbox import Outbox
from mesh.bus.streams import REVOCATION_S
from mesh.retrying import retrying
from mesh.rpc.timestamps import to_wire
from mesh.stores.errors import StoreError
from mesh.stores.postgres import Connection, Database
from mesh.telemetry.outage import Outage
from services.user.domain import ACTION_OF_CAUSE, LogOutCause, Revocation, User
from services.user.events import UserEvents
from services.user.tokens import refresh_store, revocation_store

_log = structlog.get_logger(__name__)

BUCKET = "revocations"
_KEPT = timedelta(seconds=REVOCATION_S)


class Revocations:
    """Revoke tokens, and keep the revocations published."""

    def __init__(
        self,
        *,
        db: Database,
        events: UserEvents,
        outbox: Outbox,
        bucket: KeyValue,
        ids: IdSource,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._events = events
        self._outbox = outbox
        self._bucket = bucket
        self._ids = ids
        self._clock = clock
        self._wake = asyncio.Event()

    async def revoke(self, conn: Connection, user: User, cause: LogOutCause, *, actor_id: int) -> int:
        """Revoke all tokens of a user whose row the caller has locked; return the new generation."""
        now = self._clock()
        generation = await revocation_store.next_generation(conn, user.tenant_id, user.id)
        revocation = Revocation(user.tenant_id, user.id, generation, cause, now)
        await revocation_store.put(conn, revocation)
        await refresh_store.revoke_user(conn, user.tenant_id, user.id, now)
        await revocation_store.audit(
            conn,
            self._ids.next(),
            user.tenant_id,
            actor_id=actor_id,
            user_id=user.id,
            action=ACTION_OF_CAUSE[cause],
            at=now,
        )
        await self._events.logged_out(conn, user, cause, generation)
        key = _key(revocation)
        await self._outbox.add(conn, f"$KV.{BUCKET}.{key}", _message(revocation), f"{BUCKET}.{key}.{generation}")
        return generation

    async def publish(self) -> None:
        """Publish the recent revocations that the bucket does not have."""
        async with self._db.every_tenant() as conn:
            recent = await revocation_store.since(conn, self._clock() - _KEPT)
        if not recent:
            return
        published = {entry.key for entry in await self._bucket.entries()}
        for revocation in recent:
            if _key(revocation) in published:
                continue
            try:
                # Not `put`: the outbox may have published a newer one in the meantime.
                await self._bucket.create(_key(revocation), _message(revocation).SerializeToString())
            except Conflict:
                continue
            _log.info("revocation published again", tenant=revocation.tenant_id, user_id=revocation.user_id)

    async def run(self) -> None:
        """Publish at start-up and each time when woken; retry while PostgreSQL or NATS fails."""
        outage = Outage(_log, "revocations not published, retrying", "revocations published again")
        retry = retrying(outage, StoreError, BusError)
        while True:
            await retry(self.publish)
            await self._wake.wait()
            self._wake.clear()

    def wake(self) -> None:
        """Publish soon: NATS came back, perhaps without its data."""
        self._wake.set()

    async def sweep(self) -> int:
        """Delete the revocations that no living token is subject to, and return how many there were."""
        before = self._clock() - _KEPT
        async with self._db.every_tenant() as conn:
            tenants = await revocation_store.tenants_before(conn, before)
        deleted = 0
        for tenant_id in tenants:
            async with self._db.tenant(tenant_id) as conn:
                deleted += await revocation_store.delete_before(conn, tenant_id, before)
        return deleted


def _key(revocation: Revocation) -> str:
    return f"{revocation.tenant_id}.{revocation.user_id}"


def _message(revocation: Revocation) -> pb.Revocation:
    return pb.Revocation(
        generation=revocation.generation,
        cause=pb.LogOutCause.ValueType(int(revocation.cause)),
        revoked_at=to_wire(revocation.revoked_at),
    )
