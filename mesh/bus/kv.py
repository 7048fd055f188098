"""Key-value buckets: the small shared state of the mesh (who runs, who may sign, who leases what)."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple

import structlog
from nats.errors import Error as NatsError
from nats.js import api

from mesh.bus import read
from mesh.bus.client import Client
from mesh.bus.errors import BusError, Conflict, NotStored
from mesh.bus.jetstream import call
from mesh.bus.publish import MESSAGE_ID_HEADER, Publisher
from mesh.bus.replies import Replies
from mesh.bus.streams import Bucket

_log = structlog.get_logger(__name__)

_EXPECTED_LAST_HEADER = "Nats-Expected-Last-Subject-Sequence"
_OPERATION_HEADER = "KV-Operation"
_MARKER_HEADER = "Nats-Marker-Reason"
_TIMEOUT_S = 5.0
_HEARTBEAT_S = 5.0
_SILENCE_S = 2.5 * _HEARTBEAT_S
_RETRY_S = 0.5


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
        return None if _is_gone(stored.headers) else Entry(key, stored.data, stored.seq)

    async def put(self, key: str, value: bytes, *, timeout: float = _TIMEOUT_S) -> int:
        """Sets the key whatever it holds; returns the new revision."""
        return await self._store(key, value, {}, timeout)

    async def create(self, key: str, value: bytes) -> int:
        """Sets a key that is not there; returns its revision. Conflict when it is there."""
        try:
            return await self.update(key, value, revision=0)
        except Conflict:
            # What is left of a deleted key counts as a revision too.
            with contextlib.suppress(NotStored):
                stored = await read.last(self._replies, self._bucket.stream, self._bucket.subject(key))
                if _is_gone(stored.headers):
                    return await self.update(key, value, revision=stored.seq)
            raise

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Sets a key that nobody has touched since `revision`; returns the new one. Conflict when somebody has."""
        return await self._store(key, value, {_EXPECTED_LAST_HEADER: str(revision)}, _TIMEOUT_S)

    async def delete(self, key: str, *, timeout: float = _TIMEOUT_S) -> None:
        """Deletes the key; harmless when it is not there."""
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
        """Has every watch read anew."""
        for watch in self._watches:
            watch.restart()

    async def _store(self, key: str, value: bytes, headers: dict[str, str], timeout: float) -> int:
        # With an id of its own, an attempt that is repeated because its answer was lost is not taken for a conflict.
        headers = {**headers, MESSAGE_ID_HEADER: uuid.uuid4().hex}
        ack = await self._publisher.publish_raw(self._bucket.subject(key), value, headers, timeout=timeout)
        return ack.seq


class _Watch:
    """Follows a bucket by a short-lived push consumer, and makes another when it may have missed something."""

    def __init__(self, client: Client, replies: Replies, bucket: Bucket, keys: str) -> None:
        self._client = client
        self._replies = replies
        self._bucket = bucket
        self._keys = keys
        self._prefix = len(bucket.subject(""))
        self._epoch = 0
        self._sid = 0
        self._arrived: asyncio.Queue[tuple[int, Entry | None, bool]] = asyncio.Queue()
        self._next_delivery = 1
        self._heard = 0.0

    def restart(self) -> None:
        """Ends the present consumer's validity; `run` makes another."""
        self._epoch += 1
        self._arrived.put_nowait((self._epoch, None, True))

    async def run(self) -> AsyncGenerator[Entry | None, None]:
        """See `KeyValue.watch`."""
        picture = _Picture()
        try:
            while True:
                try:
                    empty = await self._begin()
                except (NatsError, BusError, OSError, TimeoutError) as error:
                    _log.warning("bucket cannot be watched, trying again", bucket=self._bucket.name, error=repr(error))
                    await asyncio.sleep(_RETRY_S)
                    continue
                epoch = self._epoch
                picture.begin()
                for entry in picture.complete() if empty else ():
                    yield entry
                while epoch == self._epoch:
                    arrived = await self._next()
                    if arrived is None or arrived[0] != epoch:
                        continue
                    for entry in picture.take(arrived[1], last=arrived[2]):
                        yield entry
        finally:
            await self._client.unlisten(self._sid)

    async def _next(self) -> tuple[int, Entry | None, bool] | None:
        try:
            async with asyncio.timeout_at(self._heard + _SILENCE_S):
                return await self._arrived.get()
        except TimeoutError:
            if asyncio.get_running_loop().time() >= self._heard + _SILENCE_S:
                _log.warning("bucket's watch heard nothing, reading anew", bucket=self._bucket.name)
                self._epoch += 1
            return None

    async def _begin(self) -> bool:
        """Makes a consumer; returns whether there is nothing to read."""
        self._epoch += 1
        self._next_delivery = 1
        self._heard = asyncio.get_running_loop().time()
        await self._client.unlisten(self._sid)
        # The server looks for a listener on exactly this subject; one on a wildcard does not count.
        inbox = self._client.new_inbox()
        self._sid = await self._client.listen(inbox, self._on_message)
        config = api.ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
            filter_subject=self._bucket.subject(self._keys),
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            idle_heartbeat=_HEARTBEAT_S,
            inactive_threshold=60.0,
            num_replicas=1,
            mem_storage=True,
        )
        stream = self._bucket.stream
        request = {"stream_name": stream, "config": config.as_dict()}
        info = await call(self._replies, f"CONSUMER.CREATE.{stream}", request)
        return not info["num_pending"] and not info["delivered"]["consumer_seq"]

    def _on_message(self, data: bytes, headers: Mapping[str, str], subject: str, reply: str) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not reply.startswith("$JS.ACK."):
            return
        tokens = reply.split(".")
        at = 5 if len(tokens) == 9 else 7
        delivery, pending = int(tokens[at + 1]), int(tokens[at + 3])
        if delivery != self._next_delivery:
            if delivery != 1:
                self.restart()
                return
            self._next_delivery = 1
        self._next_delivery += 1
        value = None if _is_gone(headers) else data
        self._arrived.put_nowait((self._epoch, Entry(subject[self._prefix :], value, int(tokens[at])), pending == 0))


def _is_gone(headers: Mapping[str, str]) -> bool:
    return headers.get(_OPERATION_HEADER) in ("DEL", "PURGE") or _MARKER_HEADER in headers


class _Picture:
    """What a watch has told of, so that after a break it tells only what is different."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._fresh: dict[str, int] = {}
        self._complete = False

    def begin(self) -> None:
        """A consumer begins to tell everything from the start."""
        self._fresh = {}
        self._complete = False

    def take(self, entry: Entry | None, *, last: bool) -> list[Entry | None]:
        """Takes what the consumer says; returns what is news. `last`: it has said everything for now."""
        news: list[Entry | None] = []
        if entry is not None and entry.value is None:
            self._fresh.pop(entry.key, None)
            if self._told.pop(entry.key, None) is not None:
                news.append(entry)
        elif entry is not None:
            self._fresh[entry.key] = entry.revision
            if self._told.get(entry.key) != entry.revision:
                news.append(entry)
            self._told[entry.key] = entry.revision
        return news + self.complete() if last and not self._complete else news

    def complete(self) -> list[Entry | None]:
        """Everything was said: what was told of before and not now has gone."""
        gone: list[Entry | None] = [
            Entry(key, None, revision) for key, revision in self._told.items() if key not in self._fresh
        ]
        self._told = dict(self._fresh)
        self._complete = True
        return [*gone, None]
