"""The feed of a durable pull consumer: requests messages from the server and passes them on as they arrive.

One request is open at a time, for as many messages as the consumer has room for. When idle it is a long poll:
the server answers when there is a message, or after half a minute, and sends a heartbeat every few seconds.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
import structlog
from nats.errors import Error as NatsError

from mesh.bus.client import Client
from mesh.bus.errors import BusError, Rejected
from mesh.bus.jetstream import call
from mesh.bus.replies import Replies
from mesh.telemetry.outage import Outage

_log = structlog.get_logger(__name__)

_EXPIRES_S = 30.0
_HEARTBEAT_S = 5.0
# Seconds without a message or heartbeat after which a request is considered lost.
_SILENCE_S = 2.5 * _HEARTBEAT_S
_RETRY_S = 0.5
_NANO = 1_000_000_000


class Pulled(NamedTuple):
    """A message as delivered to a consumer. `attempts` is 1 at its first delivery."""

    data: bytes
    headers: Mapping[str, str]
    subject: str
    ack_subject: str
    seq: int
    attempts: int
    stored_ns: int

    @property
    def time(self) -> datetime:
        """Return when the stream stored the message."""
        return datetime.fromtimestamp(self.stored_ns / _NANO, UTC)


class Feed:
    """Pulls from one durable consumer, which the control process has created."""

    def __init__(
        self,
        client: Client,
        replies: Replies,
        stream: str,
        durable: str,
        subjects: Sequence[str],
        *,
        take: Callable[[Pulled], None],
        room: Callable[[], int],
    ) -> None:
        self._client = client
        self._replies = replies
        self._stream = stream
        self._durable = durable
        self._subjects = sorted(subjects)
        self._take = take
        self._room = room
        self._inbox = client.new_inbox()
        self._request = 0
        # Messages still due on the open request; 0 means that no request is open.
        self._due = 0
        self._known = False
        self._heard = 0.0
        self._now: Callable[[], float] = lambda: 0.0
        self._stir = asyncio.Event()

    def stir(self) -> None:
        """Check again whether there is room."""
        self._stir.set()

    def restart(self) -> None:
        """Forget the open request: the connection was replaced, and the server may have been restarted."""
        self._due = 0
        self._known = False
        self._stir.set()

    async def run(self) -> None:
        """Keep a request open whenever there is room, until cancelled."""
        loop = asyncio.get_running_loop()
        outage = Outage(
            _log, "consumer cannot pull, retrying", "consumer pulls again", stream=self._stream, durable=self._durable
        )
        sid = await self._client.listen(f"{self._inbox}.*", self._on_message)
        try:
            while True:
                self._stir.clear()
                try:
                    if not self._known:
                        await self._check()
                        self._known = True
                    if self._due == 0 and (room := self._room()) > 0:
                        await self._ask(room)
                except (NatsError, BusError, OSError, TimeoutError) as error:
                    outage.failed(error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                outage.succeeded()
                await self._wait(loop)
        finally:
            await self._client.unlisten(sid)

    async def _check(self) -> None:
        """Raise NotStored until the control process has created the consumer, Rejected when its subjects differ."""
        config = (await call(self._replies, f"CONSUMER.INFO.{self._stream}.{self._durable}"))["config"]
        filters = sorted(config.get("filter_subjects") or [config.get("filter_subject", ">")])
        if filters != self._subjects:
            raise Rejected(f"the manifest asks for {filters}, the program for {self._subjects}")

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for room, the end of the request, or a missing heartbeat."""
        while not self._stir.is_set():
            silent_at = self._heard + _SILENCE_S if self._due else None
            try:
                async with asyncio.timeout_at(silent_at):
                    await self._stir.wait()
            except TimeoutError:
                if loop.time() >= self._heard + _SILENCE_S:
                    _log.warning("consumer heartbeat missed", stream=self._stream, durable=self._durable)
                    self.restart()

    async def _ask(self, room: int) -> None:
        self._request += 1
        self._due = room
        self._heard = asyncio.get_running_loop().time()
        request = {"batch": room, "expires": int(_EXPIRES_S * _NANO), "idle_heartbeat": int(_HEARTBEAT_S * _NANO)}
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}",
            orjson.dumps(request),
            f"{self._inbox}.{self._request}",
        )

    def _on_message(self, data: bytes, headers: Mapping[str, str], subject: str, reply: str) -> None:
        # Each call of `get_running_loop` is a system call in Python 3.11.
        self._heard = self._now()
        if reply.startswith("$JS.ACK."):
            if self._due:
                self._due -= 1
                if self._due == 0:
                    self._stir.set()
            self._take(_pulled(data, headers, subject, reply))
            return
        status = headers.get("Status", "")
        if status == "100" or subject != f"{self._inbox}.{self._request}":
            # A heartbeat, or the end of an earlier request.
            return
        self._due = 0
        if status in ("404", "408"):
            self._stir.set()
            return
        # 409: the consumer was deleted, the server shuts down, ...; 503: the consumer does not exist.
        self._known = False
        if "Batch Completed" in headers.get("Description", ""):
            self._known = True
            self._stir.set()
        else:
            _log.warning(
                "consumer's request ended",
                stream=self._stream,
                durable=self._durable,
                status=status,
                description=headers.get("Description", ""),
            )
            asyncio.get_running_loop().call_later(_RETRY_S, self._stir.set)


def _pulled(data: bytes, headers: Mapping[str, str], subject: str, ack_subject: str) -> Pulled:
    """Parse the subject of an acknowledgement.

    `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<attempts>.<stream seq>.<consumer seq>.<ns>.<pending>[.<token>]`
    """
    tokens = ack_subject.split(".")
    at = 4 if len(tokens) == 9 else 6
    return Pulled(data, headers, subject, ack_subject, int(tokens[at + 1]), int(tokens[at]), int(tokens[at + 3]))
