"""Key-value buckets: the small shared state of the mesh (who runs, who may sign, who leases what)."""

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
# How often everything is read without a reason.
_READ_AGAIN_S = 10.0
# How many keys are read at once.
_PAGE = 500


class Entry(NamedTuple):
    """A key and what it holds; `value` is None when the key is gone. A later change has a higher `revision`."""

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
        """What the key holds; None when there is no such key, or it was deleted or has expired."""
        try:
            stored = await read.last(self._replies, self._bucket.stream, self._bucket.subject(key))
        except NotStored:
            return None
        if _is_gone(stored.headers) or not stored_rightly(stored.headers):
            return None
        return Entry(key, stored.data, stored.seq)

    async def put(self, key: str, value: bytes, *, timeout: float = _TIMEOUT_S) -> int:
        """Set the key whatever it holds; return the new revision."""
        return await self._store(key, value, {}, timeout)

    async def create(self, key: str, value: bytes) -> int:
        """Set a key that is not there; return its revision. Conflict when it is there."""
        try:
            return await self.update(key, value, revision=0)
        except Conflict:
            # What is left of a deleted key counts as a revision too.
            with contextlib.suppress(NotStored):
                stored = await read.last(self._replies, self._bucket.stream, self._bucket.subject(key))
                if _is_gone(stored.headers) or not stored_rightly(stored.headers):
                    return await self.update(key, value, revision=stored.seq)
            raise

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Set a key that nobody has touched since `revision`; return the new one. Conflict when somebody has."""
        return await self._store(key, value, {_EXPECTED_LAST_HEADER: str(revision)}, _TIMEOUT_S)

    async def delete(self, key: str, *, timeout: float = _TIMEOUT_S) -> None:
        """Delete the key; harmless when it is not there."""
        await self._store(key, b"", {_OPERATION_HEADER: "DEL"}, timeout)

    async def entries(self) -> list[Entry]:
        """Everything that the bucket holds now."""
        found: dict[str, Entry] = {}
        async with contextlib.aclosing(self.watch()) as updates:
            async for update in updates:
                if update is None:
                    break
                if update.value is not None:
                    found[update.key] = update
        return list(found.values())

    async def watch(self, keys: str = ">") -> AsyncGenerator[Entry | None, None]:
        """What the keys hold now, then None ("that is all for now"), then every change, until the iterator is closed.

        Survives a lost connection and a restart of NATS: it reads everything anew, tells what has changed or gone in
        the meantime, and ends that with another None.
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
        """Have every watch read anew."""
        for watch in self._watches:
            watch.restart()

    async def _store(self, key: str, value: bytes, headers: dict[str, str], timeout: float) -> int:
        # With an id of its own, an attempt that is repeated because its answer was lost is not taken for a conflict.
        headers = {**headers, MESSAGE_ID_HEADER: uuid.uuid4().hex}
        ack = await self._publisher.publish_raw(self._bucket.subject(key), value, headers, timeout=timeout)
        return ack.seq


class _Watch:
    """Watch a bucket: read the present values, then receive each change as the server publishes it.

    Without a consumer of its own, which could be made to send messages where its maker may not publish.
    """

    def __init__(self, client: Client, replies: Replies, bucket: Bucket, keys: str) -> None:
        self._client = client
        self._replies = replies
        self._bucket = bucket
        self._keys = keys
        self._prefix = len(bucket.told(""))
        self._stored_prefix = len(bucket.subject(""))
        self._epoch = 0
        # The revision of the last change that was told.
        self._heard = 0
        self._arrived: asyncio.Queue[tuple[int, Entry | None]] = asyncio.Queue()
        self._doubts = Doubts()

    def restart(self) -> None:
        """Have `run` read everything anew: changes may have been missed."""
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
            # The bucket counts anew: it has lost what it held.
            self.restart()
        self._heard = entry.revision
        self._arrived.put_nowait((self._epoch, entry))


def _is_gone(headers: Mapping[str, str]) -> bool:
    return headers.get(_OPERATION_HEADER) in ("DEL", "PURGE") or MARKER_HEADER in headers


class _Snapshot(NamedTuple):
    """What the keys held in an epoch, and the keys of which that is unknown."""

    epoch: int
    held: list[Entry]
    doubted: set[str]


class _Picture:
    """What a watch has reported, so that it reports only differences."""

    def __init__(self) -> None:
        # The revision of each key that is there, and the newest revision of all.
        self._told: dict[str, int] = {}
        self._newest = 0

    def replace(self, held: list[Entry], doubted: set[str]) -> list[Entry]:
        """Take all that the bucket holds; return what is news. What is known of `doubted` keys stays."""
        there = {each.key: each for each in held if each.value is not None}
        kept = {key: revision for key, revision in self._told.items() if key in doubted}
        news = [Entry(key, None, self._told[key]) for key in self._told if key not in there and key not in kept]
        news += [each for each in there.values() if self._told.get(each.key) != each.revision]
        self._told = kept | {key: each.revision for key, each in there.items()}
        # A server that lost its data begins to count anew.
        self._newest = max((each.revision for each in held), default=0)
        return news

    def take(self, entry: Entry) -> bool:
        """Take one change; return whether it is news. Those that were read already are not."""
        if entry.revision <= self._newest:
            return False
        self._newest = entry.revision
        if entry.value is None:
            return self._told.pop(entry.key, None) is not None
        self._told[entry.key] = entry.revision
        return True
