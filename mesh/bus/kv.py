"""Key-value buckets: the small shared state of the mesh, such as running instances, public keys and leases."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple

import structlog
from nats.errors import Error as NatsError

from mesh.bus import read
from mesh.bus.client import Client
from mesh.bus.errors import BusError, Conflict, NotStored
from mesh.bus.origin import MARKER_HEADER, Doubts, sent_rightly, stored_rightly
from mesh.bus.payload import MESSAGE_ID_HEADER
from mesh.bus.publish import Publisher
from mesh.bus.replies import Replies
from mesh.bus.streams import Bucket
from mesh.retrying import retrying
from mesh.telemetry.outage import Outage

_log = structlog.get_logger(__name__)

_EXPECTED_LAST_HEADER = "Nats-Expected-Last-Subject-Sequence"
_OPERATION_HEADER = "KV-Operation"
_TIMEOUT_S = 5.0
_RETRY_S = 0.5
# How often everything is read again, because the server does not report a bucket that lost its data.
_READ_AGAIN_S = 10.0
# How many keys are read at once.
_PAGE = 500


class Entry(NamedTuple):
    """A key and its value, None when it was deleted or has expired. A later change has a higher `revision`."""

    key: str
    value: bytes | None
    revision: int


class KeyValue:
    """One bucket. Every method may raise Unavailable."""

    def __init__(self, client: Client, replies: Replies, publisher: Publisher, bucket: Bucket) -> None:
        self._client = client
        self._replies = replies
        self._publisher = publisher
        self._bucket = bucket
        self._watches: set[_Watch] = set()

    async def get(self, key: str) -> Entry | None:
        """Return the key's entry; None when there is no such key, or it was deleted or has expired."""
        try:
            stored = await read.last(self._replies, self._bucket.stream, self._bucket.subject(key))
        except NotStored:
            return None
        if _is_gone(stored.headers) or not stored_rightly(stored.headers):
            return None
        return Entry(key, stored.data, stored.seq)

    async def put(self, key: str, value: bytes, *, timeout: float = _TIMEOUT_S) -> int:
        """Set the key unconditionally; return the new revision."""
        return await self._store(key, value, {}, timeout)

    async def create(self, key: str, value: bytes) -> int:
        """Create a key; return its revision. Raise Conflict when it exists."""
        try:
            return await self.update(key, value, revision=0)
        except Conflict:
            # The marker of a deleted key has a revision too.
            with contextlib.suppress(NotStored):
                stored = await read.last(self._replies, self._bucket.stream, self._bucket.subject(key))
                if _is_gone(stored.headers) or not stored_rightly(stored.headers):
                    return await self.update(key, value, revision=stored.seq)
            raise

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Set a key whose last change is `revision`; return the new one. Raise Conflict if it was changed since."""
        return await self._store(key, value, {_EXPECTED_LAST_HEADER: str(revision)}, _TIMEOUT_S)

    async def delete(self, key: str, *, timeout: float = _TIMEOUT_S) -> None:
        """Delete the key; do nothing when it does not exist."""
        await self._store(key, b"", {_OPERATION_HEADER: "DEL"}, timeout)

    async def entries(self) -> list[Entry]:
        """Return all entries of the bucket."""
        found: dict[str, Entry] = {}
        async with contextlib.aclosing(self.watch()) as updates:
            async for update in updates:
                if update is None:
                    break
                if update.value is not None:
                    found[update.key] = update
        return list(found.values())

    async def watch(self, keys: str = ">") -> AsyncGenerator[Entry | None, None]:
        """Yield the current entries of the keys, then None, then every change, until the iterator is closed.

        After a lost connection or a restart of NATS everything is read again: what was changed or deleted meanwhile is
        yielded, and another None.
        """
        watch = _Watch(self._client, self._replies, self._bucket, keys)
        self._watches.add(watch)
        try:
            async with contextlib.aclosing(watch.run()) as entries:
                async for entry in entries:
                    yield entry
        finally:
            self._watches.discard(watch)

    def reconnected(self) -> None:
        """Have every watch read everything again."""
        for watch in self._watches:
            watch.restart()

    async def _store(self, key: str, value: bytes, headers: dict[str, str], timeout: float) -> int:
        # With a message id, an attempt that is repeated because its answer was lost does not end in a conflict.
        headers = {**headers, MESSAGE_ID_HEADER: uuid.uuid4().hex}
        ack = await self._publisher.publish_raw(self._bucket.subject(key), value, headers, timeout=timeout)
        return ack.seq


class _Watch:
    """Watch a bucket: read the current values, then receive each change as the server publishes it.

    It does not create a consumer, which could send messages to subjects on which its creator may not publish.
    """

    def __init__(self, client: Client, replies: Replies, bucket: Bucket, keys: str) -> None:
        self._client = client
        self._replies = replies
        self._bucket = bucket
        self._keys = keys
        self._prefix = len(bucket.told(""))
        self._stored_prefix = len(bucket.subject(""))
        self._epoch = 0
        # The revision of the last change that was received.
        self._heard = 0
        self._arrived: asyncio.Queue[tuple[int, Entry | None]] = asyncio.Queue()
        self._doubts = Doubts()

    def restart(self) -> None:
        """Have `run` read everything again: changes may have been missed."""
        self._epoch += 1
        self._arrived.put_nowait((self._epoch, None))

    async def run(self) -> AsyncGenerator[Entry | None, None]:
        """See `KeyValue.watch`."""
        picture = _Picture()
        outage = Outage(_log, "bucket not read, retrying", "bucket read again", bucket=self._bucket.name)
        retry = retrying(outage, NatsError, BusError, OSError, TimeoutError, first=_RETRY_S, longest=_RETRY_S)
        # Whether to yield None once everything was yielded.
        due = True
        sid = await self._client.listen(self._bucket.told(self._keys), self._on_change)
        try:
            while True:
                snapshot: _Snapshot = await retry(self._read)
                for news in picture.replace(snapshot.held, snapshot.doubted):
                    yield news
                if due:
                    yield None
                due = True
                read_at = asyncio.get_running_loop().time()
                while snapshot.epoch == self._epoch:
                    try:
                        async with asyncio.timeout_at(read_at + _READ_AGAIN_S):
                            arrived_in, entry = await self._arrived.get()
                    except TimeoutError:
                        # The server publishes nothing when a bucket loses its data.
                        due = False
                        break
                    if entry is not None and arrived_in == snapshot.epoch and picture.take(entry):
                        yield entry
        finally:
            await self._client.unlisten(sid)

    async def _read(self) -> _Snapshot:
        epoch = self._epoch
        held: list[Entry] = []
        doubted: set[str] = set()
        after = 0
        while True:
            page = await read.read(
                self._replies, self._bucket.stream, self._bucket.subject(self._keys), after_seq=after, limit=_PAGE
            )
            if not page:
                return _Snapshot(epoch, held, doubted)
            after = page[-1].seq
            for each in page:
                key = each.subject[self._stored_prefix :]
                if stored_rightly(each.headers):
                    held.append(Entry(key, None if _is_gone(each.headers) else each.data, each.seq))
                else:
                    doubted.add(key)
                    self._doubts.note(each.subject, each.headers)

    def _on_change(self, data: bytes, headers: Mapping[str, str], subject: str, reply: str) -> None:
        if not sent_rightly(subject, headers, reply):
            self._doubts.note(subject, headers)
            return
        value = None if _is_gone(headers) else data
        entry = Entry(subject[self._prefix :], value, int(headers["Nats-Sequence"]))
        if entry.revision <= self._heard:
            # Revisions start again: the bucket has lost its data.
            self.restart()
        self._heard = entry.revision
        self._arrived.put_nowait((self._epoch, entry))


def _is_gone(headers: Mapping[str, str]) -> bool:
    return headers.get(_OPERATION_HEADER) in ("DEL", "PURGE") or MARKER_HEADER in headers


class _Snapshot(NamedTuple):
    """The entries of an epoch, and the keys whose value is unknown."""

    epoch: int
    held: list[Entry]
    doubted: set[str]


class _Picture:
    """What a watch has yielded, so that it yields only differences."""

    def __init__(self) -> None:
        # The revision of each existing key, and the newest revision of all.
        self._told: dict[str, int] = {}
        self._newest = 0

    def replace(self, held: list[Entry], doubted: set[str]) -> list[Entry]:
        """Replace all entries by those that were read; return the differences. Entries of `doubted` keys stay."""
        there = {each.key: each for each in held if each.value is not None}
        kept = {key: revision for key, revision in self._told.items() if key in doubted}
        news = [Entry(key, None, self._told[key]) for key in self._told if key not in there and key not in kept]
        news += [each for each in there.values() if self._told.get(each.key) != each.revision]
        self._told = kept | {key: each.revision for key, each in there.items()}
        # A server that lost its data starts its revisions again.
        self._newest = max((each.revision for each in held), default=0)
        return news

    def take(self, entry: Entry) -> bool:
        """Apply a change; return whether it is new. Changes that were read already are not."""
        if entry.revision <= self._newest:
            return False
        self._newest = entry.revision
        if entry.value is None:
            return self._told.pop(entry.key, None) is not None
        self._told[entry.key] = entry.revision
        return True
