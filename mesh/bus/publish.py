"""Publish to streams: many messages at once, each confirmed, none stored twice.

A publication is confirmed by the server's acknowledgement (PubAck) after it is stored. When it does not arrive, the
message is sent again with the same message id, and the server keeps one: within the stream's duplicate window a message
is stored exactly once, through reconnections and restarts of NATS.
"""

import asyncio
import re
from typing import NamedTuple

import orjson
import tenacity
from google.protobuf.message import Message
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from mesh.bus import measure, payload, read, tracing
from mesh.bus.client import Client
from mesh.bus.errors import BusError, Conflict, Full, Rejected, Unavailable
from mesh.bus.fence import SUBJECTS
from mesh.bus.group_commit import EXPECTED_LAST_HEADER, GroupCommit
from mesh.bus.payload import MESSAGE_ID_HEADER
from mesh.bus.replies import Replies, Reply
from mesh.bus.streams import stream_of
from mesh.bus.unwritable import Streams, is_out_of_room

# After how long without an acknowledgement a message is sent again, in seconds. Storing takes about a millisecond.
_ACK_WAIT_S = 2.0
# How much of the caller's time is kept to ask a stream why it does not acknowledge, in seconds, and at most which part.
_ASK_S = 0.4
_ASK_PART = 0.2
# A process that notices a timeout so much too late, in seconds, may not have sent the message in time either.
_LATE_S = 0.5
# How many messages may wait for their acknowledgement; the server itself queues 10,000 per stream.
_MAX_PENDING = 4096

# How many messages after the expected one are searched for the own message.
_LOOK_BACK = 256

_WRONG_LAST_SEQUENCE = (10071, 10164)
# NATS distinguishes a full stream from other failures by the text alone.
_NOT_STORED = 10077
_NO_RESPONDERS = "503"
_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
_MOST_DENIED = 1000

_FULL = "the store of messages is full and accepts none until it has room; try again later"


class PubAck(NamedTuple):
    """The server has stored the message.

    `seq` is its sequence in the stream. `duplicate` is True when a message with this id was stored before, and `seq` is
    that one's; it may have been stored by an earlier attempt of the same call.
    """

    seq: int
    duplicate: bool


class _TryAgainError(BusError):
    """An attempt that failed for a temporary reason."""


class Publisher:
    """Publishes on one connection."""

    def __init__(self, client: Client, replies: Replies, connected: asyncio.Event) -> None:
        self._client = client
        self._replies = replies
        self._connected = connected
        self._streams = Streams(replies)
        # Subjects, in lower case as nats-py reports them.
        self._denied: set[str] = set()
        self._groups = {
            measure.kind_of(fence): GroupCommit(client, replies, stream, wait=_ACK_WAIT_S)
            for stream, fence in SUBJECTS.items()
        }
        self._slots = asyncio.Semaphore(_MAX_PENDING)

    def failed(self, problem: str) -> None:
        """Note what the server says is wrong: it does not answer a message that its sender may not publish."""
        denied = _DENIED.search(problem)
        # They are mistakes in our own manifests, so there are few.
        if denied and len(self._denied) < _MOST_DENIED:
            self._denied.add(denied[1].lower())

    def reconnected(self) -> None:
        """Reset what is known of the server: it may be another one."""
        for group in self._groups.values():
            group.reconnected()

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str,
        timeout: float,
        expected_last_subject_sequence: int | None,
    ) -> PubAck:
        """See `Bus.publish`."""
        headers = {payload.TYPE_HEADER: payload.type_of(message), MESSAGE_ID_HEADER: message_id}
        if expected_last_subject_sequence is not None:
            headers[EXPECTED_LAST_HEADER] = str(expected_last_subject_sequence)
        data = message.SerializeToString()
        if not tracing.recorded():
            tracing.inject(headers)
            return await self.publish_raw(subject, data, headers, timeout=timeout)
        with tracing.sending(subject, headers):
            return await self.publish_raw(subject, data, headers, timeout=timeout)

    async def publish_raw(self, subject: str, data: bytes, headers: dict[str, str], *, timeout: float) -> PubAck:
        """Publish bytes with headers that contain a message id. Raise what `Bus.publish` raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._slots:
                ack = await self._deliver(subject, data, headers, began + timeout)
        except BusError:
            measure.publish_failures.labels(measure.kind_of(subject)).inc()
            raise
        measure.published(measure.kind_of(subject)).observe(loop.time() - began)
        return ack

    async def _deliver(self, subject: str, data: bytes, headers: dict[str, str], deadline: float) -> PubAck:
        try:
            return await self._attempt(subject, data, headers, deadline)
        except _TryAgainError:
            return await self._insist(subject, data, headers, deadline)
        except Conflict as conflict:
            return await self._own_conflict(subject, headers, conflict)

    async def _insist(self, subject: str, data: bytes, headers: dict[str, str], deadline: float) -> PubAck:
        measure.publish_repeats.inc()
        loop = asyncio.get_running_loop()
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            wait=tenacity.wait_exponential_jitter(multiplier=0.02, max=0.5, jitter=0.02),
            stop=lambda _state: loop.time() >= deadline,
            reraise=True,
        )
        try:
            return await retrying(self._attempt, subject, data, headers, deadline)
        except Conflict as conflict:
            return await self._own_conflict(subject, headers, conflict)
        except _TryAgainError as error:
            raise Unavailable(
                f"NATS did not store a message on {measure.kind_of(subject)}.* in time: {error}"
            ) from error

    async def _own_conflict(self, subject: str, headers: dict[str, str], conflict: Conflict) -> PubAck:
        """Check whether this message itself changed the subject: NATS compares the sequence before the id."""
        expected = int(headers[EXPECTED_LAST_HEADER])
        since = await read.read(self._replies, stream_of(subject), subject, after_seq=expected, limit=_LOOK_BACK)
        for stored in since:
            if stored.headers.get(MESSAGE_ID_HEADER) == headers[MESSAGE_ID_HEADER]:
                return PubAck(stored.seq, duplicate=True)
        raise conflict

    async def _attempt(self, subject: str, data: bytes, headers: dict[str, str], deadline: float) -> PubAck:
        loop = asyncio.get_running_loop()
        # Without a connection nats-py would keep the message and send it later, possibly after the caller's timeout.
        if not self._connected.is_set():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._connected.wait()
            except TimeoutError as error:
                raise _TryAgainError("no connection") from error
        left = deadline - loop.time()
        ask = min(_ASK_S, left * _ASK_PART)
        wait = min(left - ask, _ACK_WAIT_S)
        due = loop.time() + wait
        try:
            reply = await self._requests(subject).request(subject, data, headers, wait)
        except MaxPayloadError as error:
            raise Rejected(f"{len(data)} bytes are more than NATS accepts in one message") from error
        except TimeoutError as error:
            # A subject that this member may not publish to says nothing about the stream.
            if self._client.denied_since(subject, deadline - left):
                raise _TryAgainError("this member has no permission to publish it") from error
            if loop.time() < due + _LATE_S:
                await self._raise_if_unwritable(subject, wait, ask)
            raise _TryAgainError("no acknowledgement") from error
        except (Unavailable, NatsError, OSError) as error:
            raise _TryAgainError(str(error)) from error
        if reply.status == _NO_RESPONDERS:
            await self._raise_if_unwritable(subject, float("inf"), ask)
            raise _TryAgainError("no stream stores this subject; JetStream is starting, or the stream was not created")
        return _ack(reply)

    async def _raise_if_unwritable(self, subject: str, unanswered: float, timeout: float) -> None:
        if subject.lower() in self._denied:
            return
        if await self._streams.is_unwritable(stream_of(subject), unanswered=unanswered, timeout=timeout):
            raise Full(_FULL)

    def _requests(self, subject: str) -> GroupCommit | Replies:
        # Keys of buckets, notices and dead letters are few.
        return self._groups.get(measure.kind_of(subject), self._replies)


def _ack(reply: Reply) -> PubAck:
    answer = orjson.loads(reply.data)
    error = answer.get("error")
    if error is None:
        return PubAck(answer["seq"], answer.get("duplicate", False))
    code, description = error.get("err_code", 0), str(error.get("description", ""))
    if code in _WRONG_LAST_SEQUENCE:
        number = re.search(r"(\d+)$", description)
        raise Conflict("the subject has changed since it was read", last_seq=int(number[1]) if number else None)
    if is_out_of_room(code, description) or (code == _NOT_STORED and "maximum" in description):
        raise Full(_FULL)
    if error.get("code") in (429, 500, 503):
        raise _TryAgainError(description)
    raise Rejected(f"NATS refuses the message: {description} ({code})")
