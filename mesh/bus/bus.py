"""The bus: one connection to NATS for all that a process publishes and consumes."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog
from google.protobuf.message import Message
from nats.errors import Error as NatsError

from mesh.bus import measure, payload, read, streams, tracing
from mesh.bus.client import Client
from mesh.bus.consume import DEADLINE_S, Consumer
from mesh.bus.delivery import BatchHandler, Handler
from mesh.bus.errors import NotStored, Unavailable
from mesh.bus.jetstream import call
from mesh.bus.kv import KeyValue
from mesh.bus.origin import Doubts, guarded
from mesh.bus.publish import PubAck, Publisher
from mesh.bus.read import StoredMessage, StreamExtent
from mesh.bus.replies import Replies

M = TypeVar("M", bound=Message)

_log = structlog.get_logger(__name__)

# With more unsent bytes than this, a publication would wait for the server; a signal is dropped instead.
_SIGNALS_STOP_AT_BYTES = 1_000_000


class Subscription:
    """Interest in a subject, from `Bus.subscribe`."""

    def __init__(self, client: Client, sid: int, forget: Callable[[], None]) -> None:
        self._client = client
        self._sid = sid
        self._forget = forget

    async def unsubscribe(self) -> None:
        """End the subscription; no callback runs after this returns. Do nothing when it has ended already."""
        self._forget()
        await self._client.unlisten(self._sid)


class Bus:
    """Everything a member does with NATS. Made by `mesh.bus.connect`."""

    def __init__(self, client: Client, *, handler_deadline: float = DEADLINE_S) -> None:
        self._client = client
        self._handler_deadline = handler_deadline
        self._connected = asyncio.Event()
        self._replies = Replies(client)
        self._publisher = Publisher(client, self._replies, self._connected)
        self._buckets: dict[str, KeyValue] = {}
        self._on_reconnect: dict[object, Callable[[], None]] = {}
        self._doubts = Doubts()

    @property
    def is_connected(self) -> bool:
        """Return whether the connection to NATS is open."""
        return self._connected.is_set()

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str,
        timeout: float = 5.0,
        expected_last_subject_sequence: int | None = None,
    ) -> PubAck:
        """Store a message in the stream of its subject and return when the stream has it.

        Safe to call many times at once: the messages travel together. Sent again with the same `message_id` until it
        is acknowledged or `timeout` seconds have passed, so a restart of NATS is survived; the same id is stored once
        within the stream's duplicate window. Publications that wait at the same time may be stored in another order
        when NATS is lost in between: await each before the next where order matters.

        With `expected_last_subject_sequence` it is stored only while that is the sequence of the last message on the
        subject (0: none). Conflict when it is not; Full when the stream has no room; Unavailable after `timeout`;
        Rejected when NATS would refuse it again.
        """
        return await self._publisher.publish(
            subject,
            message,
            message_id=message_id,
            timeout=timeout,
            expected_last_subject_sequence=expected_last_subject_sequence,
        )

    async def publish_raw(self, subject: str, data: bytes, headers: dict[str, str], *, timeout: float = 5.0) -> PubAck:
        """Store a serialized payload like `publish`; `headers` must contain `Nats-Msg-Id` and `Octopus-Type`."""
        return await self._publisher.publish_raw(subject, data, headers, timeout=timeout)

    async def signal(self, subject: str, message: Message) -> None:
        """Publish to current subscribers; nothing is stored or confirmed. Drop it while NATS is unreachable or slow."""
        if not self._connected.is_set() or self._client.pending_data_size > _SIGNALS_STOP_AT_BYTES:
            return
        headers = {payload.TYPE_HEADER: payload.type_of(message)}
        tracing.inject(headers)
        with suppress(NatsError, OSError):
            await self._client.publish(subject, message.SerializeToString(), headers=headers)

    async def subscribe(
        self,
        subject: str,
        callback: Callable[[bytes, Mapping[str, str], str], None],
        *,
        on_gap: Callable[[], None] | None = None,
    ) -> Subscription:
        """Call `callback(payload, headers, subject)` for every message that is sent from now on, in order.

        The callback runs in the loop that reads the connection, so it must not block. Nothing is dropped here, but NATS
        forgets what is sent while this process is disconnected, or cuts it off when it does not read: `on_gap` is
        called after each reconnection, when messages may have been missed. `mesh.bus.payload.decode` turns the payload
        into a message. Messages that `mesh.bus.origin` rejects are left out.
        """
        sid = await self._client.listen(subject, guarded(callback, self._doubts))
        forget = self.on_reconnect(on_gap) if on_gap else lambda: None
        return Subscription(self._client, sid, forget)

    async def consume(
        self,
        stream: str,
        durable: str,
        subjects: Sequence[str],
        message_type: type[M],
        handler: Handler[M],
        *,
        max_in_flight: int = 64,
        key: Callable[[M], Hashable] | None = None,
        wanted: Callable[[M], bool] = lambda _message: True,
        max_deliveries: int = 8,
        deadline: float | None = None,
    ) -> None:
        """Run a durable consumer until cancelled; spawn it as a task.

        `mesh.bus.consume` lists the possible outcomes of a message.

        All instances of a service share the consumer by its `durable` name, which is the service's. The control process
        creates it from the service's manifest: with other `subjects`, nothing is consumed and the reason is logged.

        Up to `max_in_flight` messages are handled at once; with `key`, those with the same key one after the other and
        in the stream's order (within this instance: another instance may handle the next message of the key). What is
        not `wanted` is acknowledged where it arrives, at a fraction of the cost; the function must not raise. A handler
        that takes longer than `deadline` seconds (by default what `connect` was told) is cancelled, and its message
        tried again. A cancelled consumer waits 5 s for running handlers and returns the rest to the server.
        """
        consumer = Consumer(
            self._client,
            self._replies,
            self._publisher,
            message_type,
            stream=stream,
            durable=durable,
            subjects=subjects,
            max_in_flight=max_in_flight,
            max_deliveries=max_deliveries,
            deadline=deadline or self._handler_deadline,
        )
        forget = self.on_reconnect(consumer.feed.restart)
        try:
            await consumer.run(handler, key=key, wanted=wanted)
        finally:
            forget()

    async def consume_batches(
        self,
        stream: str,
        durable: str,
        subjects: Sequence[str],
        message_type: type[M],
        handler: BatchHandler[M],
        *,
        batch: int = 500,
        wait: float = 0.05,
        max_in_flight: int | None = None,
        max_deliveries: int = 8,
        deadline: float | None = None,
    ) -> None:
        """Consume like `consume`, one batch at a time: up to `batch` messages, collected for at most `wait` seconds.

        A batch whose handler fails is handled again message by message, so one bad message does not fail
        the others.
        """
        consumer = Consumer(
            self._client,
            self._replies,
            self._publisher,
            message_type,
            stream=stream,
            durable=durable,
            subjects=subjects,
            max_in_flight=max_in_flight or 2 * batch,
            max_deliveries=max_deliveries,
            deadline=deadline or self._handler_deadline,
        )
        forget = self.on_reconnect(consumer.feed.restart)
        try:
            await consumer.run_batches(handler, size=batch, wait=wait)
        finally:
            forget()

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return the stored messages of a subject after a sequence, in order: up to `limit`, and up to 4 MiB."""
        return await read.read(self._replies, streams.stream_of(subject), subject, after_seq=after_seq, limit=limit)

    async def at(self, stream: str, seq: int) -> StoredMessage:
        """Return the message with this sequence. NotStored when there is none (any more)."""
        return await read.at(self._replies, stream, seq)

    async def last(self, subject: str) -> StoredMessage | None:
        """Return the last stored message of a subject, None when it has none."""
        try:
            return await read.last(self._replies, streams.stream_of(subject), subject)
        except NotStored:
            return None

    async def extent_of(self, stream: str) -> StreamExtent:
        """Return the range from the stream's oldest message (when it is empty, the next one) to the last one stored."""
        return await read.extent(self._replies, stream)

    async def is_provisioned(self) -> bool:
        """Return whether the control process has created the streams; False as well while NATS does not answer."""
        try:
            # It is created last.
            await call(self._replies, f"STREAM.INFO.{streams.BUCKETS[0].stream}")
        except (NotStored, Unavailable):
            return False
        return True

    def kv(self, bucket: str) -> KeyValue:
        """Return a key-value bucket of `mesh.bus.streams`. KeyError when it is not defined there."""
        if bucket not in self._buckets:
            self._buckets[bucket] = KeyValue(self._client, self._replies, self._publisher, streams.bucket_of(bucket))
        return self._buckets[bucket]

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each reconnection, once subscriptions are restored; return a function that stops it."""
        token = object()
        self._on_reconnect[token] = callback

        def forget() -> None:
            self._on_reconnect.pop(token, None)

        return forget

    async def start(self) -> None:
        """Start on a connected client; called by `connect`."""
        await self._replies.start()
        self._connected.set()
        measure.connected.set(1)

    def failed(self, problem: str) -> None:
        """Note what the server says is wrong; `connect` calls it."""
        self._publisher.failed(problem)

    def lost(self) -> None:
        """Note that the connection was lost; called by `connect`."""
        self._connected.clear()
        measure.connected.set(0)
        self._replies.connection_lost()

    def back(self) -> None:
        """Resume on a new connection; called by `connect`."""
        self._connected.set()
        measure.connected.set(1)
        self._publisher.reconnected()
        for bucket in self._buckets.values():
            bucket.reconnected()
        for callback in list(self._on_reconnect.values()):
            try:
                callback()
            except Exception:  # noqa: BLE001  # logged in full, and the others are called
                _log.exception("reconnect callback failed")
