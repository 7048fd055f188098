"""The outbox: a row and the event about it in one transaction.

`Outbox.add` writes the event into a table of the service, in the transaction of the change. A relay publishes the rows
in the order of their ids, and deletes those that the stream has stored. After a crash in between, rows are published
again with the same message id, which the stream stores once.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import psycopg
import structlog
from google.protobuf.message import Message
from psycopg import sql
from psycopg.rows import class_row

from mesh.bus import payload, tracing
from mesh.bus.bus import Bus
from mesh.bus.errors import BusError
from mesh.bus.payload import MESSAGE_ID_HEADER
from mesh.bus.streams import stream_of
from mesh.stores.cancellation import end_if_cancelled
from mesh.stores.errors import StoreError
from mesh.stores.postgres import EVERY_TENANT, Connection, Database
from mesh.telemetry.outage import Outage

_log = structlog.get_logger(__name__)

_BATCH = 500
# How often the active relay uses its connection, so that it is not closed, and reads rows without a notification.
_SIGN_OF_LIFE_S = 1.0
# After this without use, the database closes the connection of a relay that is frozen or gone, and frees the lock.
_SILENT_S = 4.0
_RETRY_S = 0.5
# How often the other relays try to take the lock.
_TAKE_OVER_S = 1.0
_PUBLISH_TIMEOUT_S = 10.0
# NATS accepts 1 MiB in one message, headers included.
_MAX_BYTES = 1_000_000
_END_WHEN_SILENT = sql.SQL("SET idle_session_timeout = {}").format(sql.Literal(f"{_SILENT_S:.0f}s"))


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    tenant_id: str
    subject: str
    message_id: str
    type: str
    payload: bytes
    traceparent: str | None


class Outbox:
    """The outbox table of one service, e.g. `cs_session_outbox`."""

    def __init__(self, db: Database, table: str) -> None:
        self._db = db
        self._name = table
        table_name, channel = sql.Identifier(table), sql.Literal(table)
        self._insert = sql.SQL(
            "WITH added AS (INSERT INTO {} (tenant_id, subject, message_id, type, payload, traceparent)"
            " VALUES (current_setting('octopus.tenant'), %s, %s, %s, %s, %s) RETURNING id)"
            " SELECT pg_notify({}, '') FROM added"
        ).format(table_name, channel)
        self._select = sql.SQL(
            "SELECT id, tenant_id, subject, message_id, type, payload, traceparent FROM {} ORDER BY id LIMIT %s"
        ).format(table_name)
        self._delete = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(table_name)
        self._listen = sql.SQL("LISTEN {}").format(table_name)

    async def add(self, conn: Connection, subject: str, message: Message, message_id: str) -> None:
        """Publish `message` to `subject` once the caller's transaction is committed, and never if it is rolled back.

        `conn` is inside `Database.tenant`. Messages on one subject are published in the order of these calls, across
        transactions as well if those exclude one another, e.g. by a lock on the row that they change. ValueError when
        no stream stores the subject, or the message is larger than NATS accepts.
        """
        stream_of(subject)
        data = message.SerializeToString()
        if len(data) > _MAX_BYTES:
            raise ValueError(
                f"a {payload.type_of(message)} of {len(data)} bytes is more than the {_MAX_BYTES} that can be published"
            )
        headers: dict[str, str] = {}
        tracing.inject(headers)
        await conn.execute(
            self._insert, (subject, message_id, payload.type_of(message), data, headers.get("traceparent", ""))
        )

    async def relay(self, bus: Bus) -> NoReturn:
        """Publish what is in the outbox until cancelled; spawn it as a task in every instance of the service.

        One of them is active and holds a lock in the database; the others wait to take over, also from one that is
        frozen. That one may still publish rows it had read: the stream stores each message id once. Outages of
        PostgreSQL and NATS are retried.
        """
        outage = Outage(_log, "outbox relay interrupted, retrying", "outbox relay continued", table=self._name)
        while True:
            end_if_cancelled()
            try:
                async with self._db.dedicated() as conn:
                    await conn.execute(_END_WHEN_SILENT)
                    while not await self._alone(conn):  # noqa: ASYNC110  # the server does not notify when the lock is free
                        # Polled instead of waited for in the database: a statement that waits for hours
                        # keeps every table from being vacuumed.
                        await asyncio.sleep(_TAKE_OVER_S)
                    await conn.execute(self._listen)
                    _log.info("outbox relay active", table=self._name)
                    outage.succeeded()
                    await self._work(conn, bus)
            except (BusError, StoreError, psycopg.Error, OSError) as error:
                outage.failed(error)
                await asyncio.sleep(_RETRY_S)

    async def _alone(self, conn: Connection) -> bool:
        """Take the relay's lock, which is held until the connection ends; return whether it was free."""
        cursor = await conn.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (self._name,))
        row = await cursor.fetchone()
        return row is not None and bool(row[0])

    async def _work(self, conn: Connection, bus: Bus) -> NoReturn:
        while True:
            async with _signs_of_life(conn):
                while await self._publish_batch(bus):
                    end_if_cancelled()
            end_if_cancelled()
            await _notified(conn)

    async def _publish_batch(self, bus: Bus) -> bool:
        """Publish the oldest rows and delete them; return whether there may be more. Raise BusError when some stay."""
        async with self._db.every_tenant() as conn, conn.cursor(row_factory=class_row(_Row)) as cursor:
            rows = await (await cursor.execute(self._select, (_BATCH,))).fetchall()
        lanes: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            lanes[row.subject].append(row)
        done: list[_Row] = []
        # Subjects in parallel, the rows of one subject in sequence.
        results = await asyncio.gather(
            *(_publish_lane(bus, lane, done) for lane in lanes.values()), return_exceptions=True
        )
        await self._forget(done)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(rows) == _BATCH

    async def _forget(self, rows: Sequence[_Row]) -> None:
        by_tenant: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            by_tenant[row.tenant_id].append(row.id)
        for tenant_id, ids in by_tenant.items():
            owner = self._db.platform() if tenant_id == EVERY_TENANT else self._db.tenant(tenant_id)
            async with owner as conn:
                await conn.execute(self._delete, (ids,))


@asynccontextmanager
async def _signs_of_life(conn: Connection) -> AsyncIterator[None]:
    """Use the connection now and then, so that it and the lock are kept while the block waits for the bus."""

    async def show() -> None:
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_S)
            await conn.execute("SELECT 1")

    showing = asyncio.create_task(show(), name="outbox relay alive")
    try:
        yield
    finally:
        showing.cancel()
        # A lost connection raises at its next use.
        await asyncio.gather(showing, return_exceptions=True)


async def _notified(conn: Connection) -> None:
    """Return when a row was added, or when it is time to read anyway."""
    # psycopg's own wait would poll ten times a second.
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(conn.fileno(), readable.set)
    try:
        async with asyncio.timeout(_SIGN_OF_LIFE_S):
            await readable.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(conn.fileno())
    # Notifications are all alike, so those that have arrived count as one. A broken connection raises here.
    async for _ in conn.notifies(timeout=0):
        pass
    await conn.execute("SELECT 1")


async def _publish_lane(bus: Bus, rows: Sequence[_Row], done: list[_Row]) -> None:
    for row in rows:
        headers = {payload.TYPE_HEADER: row.type, MESSAGE_ID_HEADER: row.message_id}
        if row.traceparent:
            headers["traceparent"] = row.traceparent
        await bus.publish_raw(row.subject, row.payload, headers, timeout=_PUBLISH_TIMEOUT_S)
        done.append(row)
