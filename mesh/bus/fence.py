"""A fence in a stream: after a restart of NATS, sequences that were shown before it are not given again.

The messages of an atomic batch are shown to readers before the server has synchronized its files. When the power goes
just then they are lost, unacknowledged, and the server would give their sequences to other messages: a client that
resumes after the last sequence it saw would miss those, and a consumer would take them for acknowledged. So whoever
publishes batches first looks whether the stream has a fence of the server that runs now: as many messages as one batch
can hold, on a subject that nobody reads.
"""

import os
from enum import Enum, auto
from typing import Final

import orjson

from mesh.bus.client import Client
from mesh.bus.replies import Replies

SUBJECTS: Final = {"LOG": "log.fence", "EVENT": "event.fence"}
HEIGHT: Final = 256
_DUPLICATE: Final = 10201
_BATCHES_DISABLED: Final = 10174


class Batches(Enum):
    """What a stream says to a batch that is put up as a fence."""

    STAND = auto()
    # For now, e.g. because the stream is full.
    REFUSED = auto()
    # The stream takes no batches.
    DISABLED = auto()


class Fence:
    """The fence of one stream, as one process sees it."""

    def __init__(self, client: Client, replies: Replies, stream: str) -> None:
        self._client = client
        self._replies = replies
        self._subject = SUBJECTS[stream]
        self._server = ""

    async def stand(self, timeout: float) -> Batches:
        """See to it that the stream has a fence of the running server. Raises TimeoutError, Unavailable."""
        server = self._client.server_id
        if server == self._server:
            return Batches.STAND
        batch = {"Nats-Batch-Id": os.urandom(16).hex()}
        # By its message id the server knows a second fence, and refuses it.
        first = {"Nats-Msg-Id": f"fence.{server}"}
        for number in range(1, HEIGHT):
            headers = {**batch, **(first if number == 1 else {}), "Nats-Batch-Sequence": str(number)}
            await self._client.publish(self._subject, b"", headers=headers)
        headers = {**batch, "Nats-Batch-Sequence": str(HEIGHT), "Nats-Batch-Commit": "1"}
        reply = await self._replies.request(self._subject, b"", headers, timeout)
        answer = orjson.loads(reply.data) if reply.data else {"error": {}}
        code = answer.get("error", {}).get("err_code")
        if "error" not in answer or code == _DUPLICATE:
            self._server = server
            return Batches.STAND
        return Batches.DISABLED if code == _BATCHES_DISABLED else Batches.REFUSED
