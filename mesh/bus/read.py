"""Read a stream by subject and sequence, without a consumer: JetStream's direct get, in batches (NATS 2.11).

In a cluster any server answers a direct get, also one that lags behind. So the end of its answer is compared with the
stream's leader, and read again until it is the same: a reader that resumes gets every message that was acknowledged
before. (NATS 2.15 does not have `min_last_seq` of ADR-53.)
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
import tenacity

from mesh.bus.errors import NotStored, Unavailable
from mesh.bus.jetstream import TIMEOUT_S, call, refusal
from mesh.bus.origin import stored_rightly
from mesh.bus.replies import Replies, Reply

# The largest answer to one read, in bytes; the rest is for the next read. Keeps a resume from filling the send buffer.
_MAX_BYTES = 4 * 1024 * 1024
# Seconds after which a server that lagged behind is read again.
_LAG_S = 0.02


# Not a valid message.
_UNREADABLE = b"\xff"


class StoredMessage(NamedTuple):
    """A stored message. When `mesh.bus.origin` rejects it, its `data` cannot be decoded."""

    seq: int
    subject: str
    data: bytes
    headers: Mapping[str, str]
    time: datetime

    @property
    def following(self) -> int:
        """Return how many messages of its subject followed when it was read; only for messages from `Bus.read`."""
        return int(self.headers["Nats-Num-Pending"])


class StreamExtent(NamedTuple):
    """The range of a stream: messages before `first_seq` were deleted."""

    first_seq: int
    # When the message with this sequence was stored; in an empty stream, the last one it had.
    time: datetime
    # The sequence of the last message that was stored, also after it was deleted.
    last_seq: int


async def read(replies: Replies, stream: str, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
    """See `Bus.read`."""
    found = await _page(replies, stream, subject, after_seq=after_seq, limit=limit)
    if not replies.may_be_stale:
        return found

    async def read_on() -> bool:
        if len(found) >= limit or (found and found[-1].following):
            return True
        last_seq = found[-1].seq if found else after_seq
        if await _newest(replies, stream, subject) <= last_seq:
            return True
        found.extend(await _page(replies, stream, subject, after_seq=last_seq, limit=limit - len(found)))
        return False

    await _until_current(stream, read_on)
    return found


async def _page(replies: Replies, stream: str, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
    if limit < 1:
        return []
    found: list[StoredMessage] = []
    problem: list[Reply] = []

    def take(reply: Reply) -> bool:
        if not reply.status:
            found.append(_stored(reply))
            return False
        # 204 ends a batch, 404 says that there is nothing (more).
        if reply.status not in ("204", "404"):
            problem.append(reply)
        return True

    request = {"seq": after_seq + 1, "next_by_subj": subject, "batch": limit, "max_bytes": _MAX_BYTES}
    await _collect(replies, stream, request, take)
    if problem:
        raise refusal(stream, problem[0])
    return found


async def at(replies: Replies, stream: str, seq: int) -> StoredMessage:
    """See `Bus.at`."""
    request: dict[str, object] = {"seq": seq}
    if replies.may_be_stale:
        await call(replies, f"STREAM.MSG.GET.{stream}", request)
    return await _current(replies, stream, request, seq)


async def last(replies: Replies, stream: str, subject: str) -> StoredMessage:
    """See `Bus.last`."""
    newest = await _newest(replies, stream, subject) if replies.may_be_stale else 0
    return await _current(replies, stream, {"last_by_subj": subject}, newest)


async def _current(replies: Replies, stream: str, request: dict[str, object], seq: int) -> StoredMessage:
    """Return the message with a sequence that the leader has, once the answering server has it too."""
    if not replies.may_be_stale or not seq:
        return await _one(replies, stream, request)
    found: list[StoredMessage] = []

    async def ask() -> bool:
        with contextlib.suppress(NotStored):
            found[:] = [await _one(replies, stream, request)]
        return bool(found) and found[0].seq >= seq

    await _until_current(stream, ask)
    return found[0]


async def _newest(replies: Replies, stream: str, subject: str) -> int:
    """Return the sequence of the last message of a subject that the stream's leader has; 0 when it has none."""
    try:
        answer = await call(replies, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except NotStored:
        return 0
    return int(answer["message"]["seq"])


async def _until_current(stream: str, ask: Callable[[], Awaitable[bool]]) -> None:
    """Call until the result is True. Raise Unavailable after some seconds."""
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda done: not done),
        wait=tenacity.wait_fixed(_LAG_S),
        stop=tenacity.stop_after_delay(TIMEOUT_S),
    )
    try:
        await retrying(ask)
    except tenacity.RetryError as error:
        raise Unavailable(f"no server that answers has the whole stream {stream}") from error


async def extent(replies: Replies, stream: str) -> StreamExtent:
    """See `Bus.extent_of`."""
    state = (await call(replies, f"STREAM.INFO.{stream}"))["state"]
    # An empty stream reports when its last message was stored: everything until then was deleted.
    stored_at = state["first_ts"] if state["messages"] else state["last_ts"]
    return StreamExtent(int(state["first_seq"]), _time(stored_at), int(state["last_seq"]))


async def _one(replies: Replies, stream: str, request: dict[str, object]) -> StoredMessage:
    try:
        reply = await replies.request(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(request), None, TIMEOUT_S)
    except TimeoutError as error:
        raise Unavailable(f"the stream {stream} did not answer within {TIMEOUT_S} s") from error
    if reply.status:
        raise refusal(stream, reply)
    return _stored(reply)


async def _collect(replies: Replies, stream: str, request: dict[str, object], take: Callable[[Reply], bool]) -> None:
    try:
        await replies.collect(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(request), take, TIMEOUT_S)
    except TimeoutError as error:
        raise Unavailable(f"the stream {stream} did not answer within {TIMEOUT_S} s") from error


def _stored(reply: Reply) -> StoredMessage:
    headers = reply.headers
    stamp = headers["Nats-Time-Stamp"]
    return StoredMessage(
        seq=int(headers["Nats-Sequence"]),
        subject=headers["Nats-Subject"],
        data=reply.data if stored_rightly(headers) else _UNREADABLE,
        headers=headers,
        time=_time(stamp),
    )


def _time(stamp: str) -> datetime:
    """Parse an RFC 3339 time with up to nine digits of a second, of which Python keeps six."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(microsecond=int(fraction[:6].ljust(6, "0")), tzinfo=UTC)
