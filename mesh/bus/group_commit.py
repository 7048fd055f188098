"""Group commit: messages that wait while NATS synchronizes its files are sent together and synchronized once.

A server that synchronizes before it acknowledges does so for each message, but once for an atomic batch (NATS 2.15,
ADR-50). So while one group is in flight the next one is collected: a few messages are sent one by one, many as one
batch. Atomicity itself is not needed: when the server refuses a batch, e.g. because one of its message ids is stored
already, its messages are sent one by one, and each gets its own answer.

A batch is visible to readers before it is synchronized, and its sequences could be assigned again after a power cut:
`mesh.bus.fence` prevents that.
"""

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import orjson
import structlog
from nats.errors import Error as NatsError

from mesh.bus import measure
from mesh.bus.client import Client
from mesh.bus.errors import Unavailable
from mesh.bus.fence import HEIGHT, Batches, Fence
from mesh.bus.replies import Replies, Reply

_log = structlog.get_logger(__name__)

EXPECTED_LAST_HEADER: Final = "Nats-Expected-Last-Subject-Sequence"

# A batch costs the server about as much as this many single messages: it writes and removes files of its own, in memory
# (`mesh.platform.components.nats_staging`; in a cluster the server does that itself).
_WORTH_A_BATCH: Final = 5
# Messages that are visible and not synchronized fit within the fence.
_MOST_IN_A_BATCH: Final = HEIGHT
_MOST_BYTES: Final = 1_000_000
_NO_RESPONDERS: Final = "503"


@dataclass(slots=True, eq=False)
class _Waiting:
    subject: str
    data: bytes
    headers: dict[str, str]
    answer: "asyncio.Future[Reply]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommit:
    """The messages of one process that are being stored in one stream."""

    def __init__(self, client: Client, replies: Replies, stream: str, *, wait: float) -> None:
        """`wait` is the number of seconds after which a message without an answer fails."""
        self._client = client
        self._replies = replies
        self._stream = stream
        self._wait = wait
        self._fence = Fence(client, replies, stream)
        self._waiting: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        # Whether the server accepts batches; determined by the first one on each connection.
        self._batches = True
        self._batch_prefix = os.urandom(8).hex()
        self._batch_number = 0

    def reconnected(self) -> None:
        """Reset what is known of the server: it may be another one."""
        self._batches = True

    async def request(self, subject: str, data: bytes, headers: dict[str, str], timeout: float) -> Reply:
        """Send a message with the others, and return the server's answer to it. Raise what `Replies.request` raises."""
        waiting = _Waiting(subject, data, headers)
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._send_all(), name="group commit")
        # A third of what `asyncio.timeout` costs, which every message would pay.
        giving_up = asyncio.get_running_loop().call_later(timeout, _fail, [waiting], TimeoutError())
        try:
            return await waiting.answer
        finally:
            giving_up.cancel()
            # Cancelled while it was queued: `_take` skips it.
            waiting.answer.cancel()

    async def _send_all(self) -> None:
        try:
            while group := self._take():
                try:
                    await self._send(group)
                except Exception as error:  # noqa: BLE001  # each of those that wait raises it
                    _fail(group, error)
        finally:
            self._task = None

    def _take(self) -> list[_Waiting]:
        """Return the next group: in order, and nothing behind a message that expects to be the first on its subject."""
        group: list[_Waiting] = []
        subjects: set[str] = set()
        size = 0
        while self._waiting and len(group) < _MOST_IN_A_BATCH:
            first = self._waiting[0]
            if first.answer.done():
                self._waiting.popleft()
                continue
            size += len(first.data)
            expects = EXPECTED_LAST_HEADER in first.headers
            if group and (size > _MOST_BYTES or (expects and first.subject in subjects)):
                break
            subjects.add(first.subject)
            group.append(self._waiting.popleft())
        return group

    async def _send(self, group: list[_Waiting]) -> None:
        if self._batches and len(group) >= _WORTH_A_BATCH and await self._may_batch() and await self._send_batch(group):
            return
        await asyncio.gather(*(self._send_one(each) for each in group))

    async def _may_batch(self) -> bool:
        answer = await self._fence.stand(self._wait)
        if answer is Batches.DISABLED:
            self._batches = False
            _log.info("bus does not accept batches, sending messages one by one", stream=self._stream)
        return answer is Batches.STAND

    async def _send_one(self, waiting: _Waiting) -> None:
        try:
            reply = await self._replies.request(waiting.subject, waiting.data, waiting.headers, self._wait)
        except (TimeoutError, Unavailable, NatsError, OSError) as error:
            _fail([waiting], error)
        else:
            if not waiting.answer.done():
                waiting.answer.set_result(reply)

    async def _send_batch(self, group: list[_Waiting]) -> bool:
        """Send a group as one batch; return False when the server refused it and stored none of it."""
        self._batch_number += 1
        batch = {"Nats-Batch-Id": f"{self._batch_prefix}{self._batch_number}"}
        async with asyncio.timeout(self._wait):
            for number, each in enumerate(group[:-1], 1):
                headers = {**each.headers, **batch, "Nats-Batch-Sequence": str(number)}
                await self._client.publish(each.subject, each.data, headers=headers)
        last = group[-1]
        headers = {**last.headers, **batch, "Nats-Batch-Sequence": str(len(group)), "Nats-Batch-Commit": "1"}
        reply = await self._replies.request(last.subject, last.data, headers, self._wait)
        if reply.status == _NO_RESPONDERS:
            raise Unavailable("no stream stores this subject")
        answer = orjson.loads(reply.data)
        if "error" in answer:
            measure.batches_refused.inc()
            return False
        measure.batch_size.observe(len(group))
        first_seq = answer["seq"] - len(group) + 1
        for seq, each in enumerate(group, first_seq):
            if not each.answer.done():
                each.answer.set_result(Reply(orjson.dumps({"stream": answer["stream"], "seq": seq}), {}))
        return True


def _fail(group: list[_Waiting], error: Exception) -> None:
    for each in group:
        if not each.answer.done():
            each.answer.set_exception(error)
