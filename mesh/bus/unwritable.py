"""Detect a stream that cannot be written, which NATS does not report to its publishers.

A stream whose file could not be written, because its disk is full for example, stores no message and sends no
acknowledgement (NATS 2.15); only its server's health has the reason. But it answers requests for its state: when a
message is not acknowledged, and the state shows that nothing was stored since, the stream cannot be written. A server
that is slow, frozen or unreachable does not answer, and one without the majority of its cluster reports that. A server
that continues after a freeze may answer before it stores what has arrived meanwhile, so it is asked twice.
"""

import asyncio
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
from nats.errors import Error as NatsError

from mesh.bus.errors import Unavailable
from mesh.bus.replies import Replies

# Seconds without contact after which a peer of a cluster is considered lost.
_AWAY_NS: Final = 2_000_000_000
# Seconds between two answers that say the same, at least and at most.
_ASK_AGAIN_S: Final = 0.1
_FORGET_S: Final = 10.0
# JetStream was disabled for lack of room, or has no room for the request.
_NO_ROOM: Final = (10023, 10028, 10039, 10047, 10076)


def is_out_of_room(code: int, description: str) -> bool:
    """Return whether an error of JetStream means that it has no room."""
    return code in _NO_ROOM or "no space left" in description or "insufficient" in description


class _Answer(NamedTuple):
    """When a stream answered, by the loop's clock, and for how many seconds it had stored nothing then."""

    at: float
    quiet_s: float


class Streams:
    """The state of the streams; concurrent checks of one stream share one request."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._asking: dict[str, asyncio.Task[float]] = {}
        # The last answer of each stream that had stored nothing for a while.
        self._answers: dict[str, _Answer] = {}

    async def is_unwritable(self, stream: str, *, unanswered: float, timeout: float) -> bool:
        """Return whether a stream stores nothing, after a message was `unanswered` for this many seconds.

        False as well when it does not answer within `timeout` seconds.
        """
        asking = self._asking.get(stream)
        if asking is None:
            asking = asyncio.create_task(self._quiet_for(stream, timeout), name="is the stream unwritable")
            self._asking[stream] = asking
            asking.add_done_callback(lambda _done: self._asking.pop(stream, None))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(asking) >= unanswered
        except TimeoutError:
            return False

    async def _quiet_for(self, stream: str, timeout: float) -> float:
        """Return for how many seconds a stream that answers twice has stored nothing; 0 when unknown."""
        first = self._answers.get(stream)
        if first is None or not _ASK_AGAIN_S <= self._age(first) <= _FORGET_S:
            first = await self._ask(stream, timeout)
            if not first.quiet_s:
                return 0
            await asyncio.sleep(_ASK_AGAIN_S)
        second = await self._ask(stream, timeout)
        return second.quiet_s if second.quiet_s > self._age(first) else 0

    def _age(self, answer: _Answer) -> float:
        return asyncio.get_running_loop().time() - answer.at

    async def _ask(self, stream: str, timeout: float) -> _Answer:
        try:
            reply = await self._replies.request(f"$JS.API.STREAM.INFO.{stream}", b"", None, timeout)
        except (TimeoutError, Unavailable, NatsError, OSError):
            quiet_s = 0.0
        else:
            quiet_s = 0 if reply.status else quiet_for(orjson.loads(reply.data))
        answer = _Answer(asyncio.get_running_loop().time(), quiet_s)
        if quiet_s:
            self._answers[stream] = answer
        else:
            self._answers.pop(stream, None)
        return answer


def quiet_for(info: dict[str, Any]) -> float:
    """Return for how many seconds a stream has stored nothing, by its own state; 0 when that has another reason.

    Reasons are a cluster without a majority, and any error but the lack of room.
    """
    if error := info.get("error"):
        out = is_out_of_room(error.get("err_code", 0), str(error.get("description", "")))
        return float("inf") if out else 0
    cluster = info.get("cluster") or {}
    others = cluster.get("replicas") or []
    away = [each for each in others if each.get("offline") or each.get("active", 0) > _AWAY_NS]
    if not cluster.get("leader", True) or 2 * len(away) > len(others):
        return 0
    now = datetime.fromisoformat(_to_microseconds(info["ts"]))
    return (now - datetime.fromisoformat(_to_microseconds(info["state"]["last_ts"]))).total_seconds()


def _to_microseconds(time: str) -> str:
    # Nanoseconds, of which trailing zeros are left out, in UTC.
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00"
