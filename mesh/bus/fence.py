"""A fence in a stream: after a restart of NATS, sequences that readers have seen are not assigned again.

The messages of an atomic batch are visible to readers before the server has synchronized its files. A power cut at that
moment loses them, unacknowledged, and the server would assign their sequences to other messages: a client that resumes
after the last sequence it saw would miss those, and a consumer would consider them acknowledged. So a publisher of
batches first checks whether the stream has a fence of the running server: as many messages as one batch can hold, on a
subject that has no readers.
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
    """A stream's answer to a batch that is published as a fence."""

    STAND = auto()
    # Temporarily, e.g. because the stream is full.
    REFUSED = auto()
    # The stream does not accept batches.
    DISABLED = auto()


class Fence:
    """The fence of one stream, as known to one process."""

    def __init__(self, client: Client, replies: Replies, stream: str) -> None:
        self._client = client
        self._replies = replies
        self._subject = SUBJECTS[stream]
        self._server = ""

    async def stand(self, timeout: float) -> Batches:
        """Put a fence of the running server into the stream unless there is one. Raise TimeoutError, Unavailable."""
        server = self._client.server_id
        if server == self._server:
            return Batches.STAND
        batch = {"Nats-Batch-Id": os.urandom(16).hex()}
        # The server detects a second fence by its message id, and refuses it.
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
