"""Many conversations on one stream: each is what `Converse` is, without a stream and a task of its own."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import structlog
from octopus.chat.v1 import relay_pb2, relay_service_pb2
from octopus.errors.v1 import errors_pb2

from mesh.errors import refused_from
from mesh.rpc.admission import Admission
from mesh.rpc.principal import Principal
from mesh.rpc.validation import Invalid, reader
from services.chat import metrics
from services.chat.connection import WRITE_BYTES, Connection
from services.chat.inbox import Inbox
from services.chat.streams import Request, Streams, hello_of

_log = structlog.get_logger(__name__)

# Bytes of messages under way in a conversation, in each direction, before the other side says that it has taken them.
WINDOW: Final = 128 * 1024
# What has been taken is said when it comes to so much, or when nothing more is under way.
_TAKEN_AT_ONCE: Final = WINDOW // 4
# What a message costs besides its bytes, so that a million small ones are not free.
MESSAGE_COST: Final = 64
# Bytes of one write for all conversations together; one conversation's share of it is `WRITE_BYTES`.
_BATCH_BYTES: Final = 256 * 1024

_read_request: Final = reader(Request.FromString)


class Line:
    """One stream of one bridge."""

    def __init__(self, streams: Streams, admission: Admission) -> None:
        self.streams = streams
        self.admission = admission
        self._relayed: dict[int, _Relayed] = {}
        self._items: list[relay_pb2.ToClient] = []
        # Conversations with something to say, in the order in which they get their turn.
        self._ready: dict[_Relayed, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = False
        self._draining = False
        self._over = False
        self._sleeping: asyncio.Future[None] | None = None

    async def read(self, requests: AsyncIterator[relay_service_pb2.RelayRequest | Invalid]) -> None:
        """Process the bridge's requests until it ends the stream.

        Raises:
            Refused: what came is no request; bridges do not do that.

        """
        try:
            async for request in requests:
                if isinstance(request, Invalid):
                    raise request.refused()
                if not request.items:
                    self._asked = True
                    self._wake()
                for item in request.items:
                    self._take_alone(item)
        finally:
            self._over = True
            self._wake()

    async def write(self, write: Callable[[relay_service_pb2.RelayResponse], Coroutine[Any, Any, None]]) -> None:
        """Write what waits, for all conversations at once, until the stream is over."""
        loop = asyncio.get_running_loop()
        told = False
        while not self._over:
            response = self._collected()
            if self._draining and not told:
                response.draining = told = True
            if response.items or self._asked or response.draining:
                self._asked = False
                await write(response)
            elif told and not self._relayed:
                return
            else:
                self._sleeping = loop.create_future()
                await self._sleeping

    def say(self, item: relay_pb2.ToClient) -> None:
        """Send an item as soon as possible."""
        self._items.append(item)
        self._wake()

    def ready(self, relayed: _Relayed) -> None:
        """Give a conversation a turn."""
        self._ready[relayed] = None
        self._wake()

    def forget(self, relayed: _Relayed) -> None:
        """Carry a conversation no longer."""
        self._relayed.pop(relayed.number, None)
        self._ready.pop(relayed, None)
        self._wake()

    def spawn(self, work: Coroutine[Any, Any, None], context: contextvars.Context | None = None) -> asyncio.Task[None]:
        """Run something that belongs to one conversation."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def drain(self) -> None:
        """Say that the instance is stopping."""
        self._draining = True
        self._wake()

    async def close(self) -> None:
        """End all conversations: the bridge is gone."""
        for relayed in list(self._relayed.values()):
            relayed.gone()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_alone(self, item: relay_pb2.FromClient) -> None:
        """Process an item; a failure ends its conversation only."""
        try:
            self._take(item)
        except Exception:  # noqa: BLE001  # whatever it is, the others go on
            _log.exception("conversation failed")
            if (relayed := self._relayed.get(item.connection)) is not None:
                relayed.end(errors_pb2.REASON_INTERNAL)

    def _take(self, item: relay_pb2.FromClient) -> None:
        number = item.connection
        if item.HasField("open"):
            if number not in self._relayed:
                opened = self._relayed[number] = _Relayed(self, number)
                opened.admit(item.open)
            return
        relayed = self._relayed.get(number)
        if relayed is None:
            # It has ended here while this was on its way.
            return
        match item.WhichOneof("item"):
            case "message":
                relayed.take(item.message)
            case "taken":
                relayed.has_taken(item.taken)
            case "gone":
                relayed.gone()

    def _collected(self) -> relay_service_pb2.RelayResponse:
        response = relay_service_pb2.RelayResponse(items=self._items)
        self._items = []
        size = 0
        while self._ready and size < _BATCH_BYTES:
            relayed = next(iter(self._ready))
            del self._ready[relayed]
            size += relayed.collect(response)
        return response

    def _wake(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)


class _Relayed:
    """One conversation."""

    __slots__ = (
        "_connection",
        "_context",
        "_early",
        "_inbox",
        "_line",
        "_opening",
        "_owed",
        "_principal",
        "_room",
        "_since",
        "number",
    )

    def __init__(self, line: Line, number: int) -> None:
        self.number = number
        self._line = line
        self._since = time.monotonic()
        # Bytes that the client may still be sent, and bytes of its messages not yet said to be taken.
        self._room = WINDOW
        self._owed = 0
        self._connection: Connection | None = None
        self._inbox: Inbox | None = None
        self._principal: Principal | None = None
        # Messages that came before the welcome; None from then on.
        self._early: list[bytes] | None = []
        self._opening: asyncio.Task[None] | None = None
        # Where everything of this conversation runs: its caller, its trace.
        self._context = contextvars.copy_context()

    def admit(self, opening: relay_pb2.RelayOpen) -> None:
        """Let the person in by the rules of `Converse`, or refuse the conversation."""
        admission = self._line.admission
        try:
            self._principal = self._context.run(admission.enter, opening.access_token, opening.traceparent)
        except Exception as error:  # noqa: BLE001  # one place decides what any failure means for the client
            self.end(refused_from(error).reason)

    def take(self, data: bytes) -> None:
        """Take a message of the client."""
        self._owed += len(data) + MESSAGE_COST
        if self._early is not None:
            self._early.append(data)
            if self._opening is None:
                self._opening = self._line.spawn(self._begin(), self._context)
        elif self._connection is not None and self._inbox is not None:
            self._line.streams.take(_read(data), self._connection, self._inbox)
            self._inbox.when_idle(self._say_taken)

    def has_taken(self, octets: int) -> None:
        """Note that the client has taken some of what it was sent."""
        self._room += octets
        self._line.ready(self)

    def gone(self) -> None:
        """End the conversation: the client has gone."""
        self._close(errors_pb2.REASON_UNSPECIFIED)

    def collect(self, response: relay_service_pb2.RelayResponse) -> int:
        """Add what waits for the client, and the end of the conversation when it has come; return its bytes."""
        connection = self._connection
        if connection is None:
            return 0
        size = 0
        if self._room > 0 and (data := connection.take(WRITE_BYTES)):
            size = len(data)
            self._room -= size
            response.items.add(connection=self.number, message=data)
        if connection.waiting:
            if self._room > 0:
                self._line.ready(self)
        elif connection.ending is not None:
            if connection.cut_off:
                metrics.ENDED.labels(errors_pb2.Reason.Name(connection.ending.reason)).inc()
            response.items.add(connection=self.number, closed=relay_pb2.RelayClosed(reason=connection.ending.reason))
            self._close(connection.ending.reason)
        return size

    async def _begin(self) -> None:
        """Say hello for the client, and then take what else has come."""
        streams = self._line.streams
        principal, early = self._principal, self._early
        if principal is None or early is None:
            return
        try:
            hello, rest = hello_of(_read(early[0]))
            connection = self._connection = streams.connect(principal, talks_back=True)
            inbox = self._inbox = streams.inbox(connection, self._context)
            await streams.welcome(connection, hello)
            for frame in rest if connection.open else ():
                streams.take_frame(frame, connection, inbox)
            for data in early[1:]:
                streams.take(_read(data), connection, inbox)
        except Exception as error:  # noqa: BLE001  # one place decides what any failure means for the client
            refused = refused_from(error)
            if refused.reason == errors_pb2.REASON_INTERNAL:
                _log.exception("conversation not opened")
            self.end(refused.reason)
            return
        self._early = None
        connection.on_change = self._changed
        inbox.when_idle(self._say_taken)
        self._line.ready(self)

    async def _forget(self, connection: Connection | None, opening: asyncio.Task[None] | None) -> None:
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        if connection is not None:
            await self._line.streams.forget(connection)

    def _changed(self, _connection: Connection) -> None:
        self._line.ready(self)

    def _say_taken(self) -> None:
        if self._owed >= _TAKEN_AT_ONCE:
            self._line.say(relay_pb2.ToClient(connection=self.number, taken=self._owed))
            self._owed = 0

    def end(self, reason: errors_pb2.Reason.ValueType) -> None:
        """End the conversation at once, with a reason."""
        self._line.say(relay_pb2.ToClient(connection=self.number, closed=relay_pb2.RelayClosed(reason=reason)))
        self._close(reason)

    def _close(self, reason: errors_pb2.Reason.ValueType) -> None:
        self._line.forget(self)
        if self._inbox is not None:
            self._inbox.close()
        if self._connection is not None:
            self._connection.on_change = None
            self._connection.close()
        self._line.spawn(self._forget(self._connection, self._opening), self._context)
        self._connection = self._opening = None
        fields: dict[str, object] = {
            "reason": errors_pb2.Reason.Name(reason),
            "ms": round((time.monotonic() - self._since) * 1000, 1),
        }
        if self._principal is not None:
            fields |= {"tenant": self._principal.tenant_id, "user_id": self._principal.user_id}
        self._context.run(_log.info, "conversation ended", **fields)


def _read(data: bytes) -> Request | Invalid:
    request = _read_request(data)
    if isinstance(request, Request | Invalid):
        return request
    raise TypeError(type(request))
