"""One stream to one instance of chat, and the clients whose conversations it carries."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, Protocol

import grpc
import structlog
from octopus.chat.v1 import relay_pb2, relay_service_pb2
from octopus.errors.v1 import errors_pb2

from edge.bridge.wheel import Wheel

_log = structlog.get_logger(__name__)

Call = grpc.aio.StreamStreamCall[relay_service_pb2.RelayRequest, relay_service_pb2.RelayResponse]

# Bytes and items of one write; chat takes 2 MiB.
_BATCH_BYTES: Final = 256 * 1024
_BATCH_ITEMS: Final = 4096
# Seconds between two looks at an instance, and looks without a sign of life after which it is given up.
LOOK_S: Final = 1.0
LOOKS: Final = 5
# After so many it gets no new conversations.
DOUBTED: Final = 2
# When a line is lost its clients connect again, so many each time and not all at once.
_AT_ONCE: Final = 200
_PAUSE_S: Final = 0.1


class Client(Protocol):
    """Whose conversation is carried."""

    def deliver(self, message: bytes) -> None:
        """Pass on a `ConverseResponse`."""

    def granted(self, octets: int) -> None:
        """Note that chat has processed this many bytes of the client's messages."""

    def closed(self, reason: errors_pb2.Reason.ValueType) -> None:
        """End: the conversation has ended."""


class Line:
    """A stream of conversations. Each write carries all that has come since the last one."""

    def __init__(self, call: Call, instance: str, wheel: Wheel, on_end: Callable[[Line], None]) -> None:
        self.instance: Final = instance
        self._call = call
        self._wheel = wheel
        self._on_end = on_end
        self._clients: dict[int, Client] = {}
        self._numbers = itertools.count(1)
        self._request = relay_service_pb2.RelayRequest()
        self._size = 0
        self._sleeping: asyncio.Future[None] | None = None
        self._silent = 0
        # Whether a sign of life is to be asked for.
        self._ask = False
        # False once the instance refuses new conversations, or the stream has ended.
        self.open = True
        self._ended = False
        self._tasks = (
            asyncio.create_task(self._read(), name=f"read-{instance}"),
            asyncio.create_task(self._write(), name=f"write-{instance}"),
        )
        wheel.after(LOOK_S, self._look)

    @property
    def good(self) -> bool:
        """Return whether new conversations belong here: it takes them, and has answered lately."""
        return self.open and self._silent <= DOUBTED

    def carry(self, client: Client, token: str, traceparent: str, message: bytes) -> int:
        """Open a conversation and return its number; `message` begins with the hello."""
        number = next(self._numbers)
        self._clients[number] = client
        item = self._request.items.add(connection=number)
        item.open.access_token = token
        item.open.traceparent = traceparent
        self.say(number, message)
        return number

    def say(self, number: int, message: bytes) -> None:
        """Pass on a `ConverseRequest`."""
        self._request.items.add(connection=number, message=message)
        self._size += len(message)
        self._wake()

    def taken(self, number: int, octets: int) -> None:
        """Say that a client has taken so much of what it was sent."""
        self._request.items.add(connection=number, taken=octets)
        self._wake()

    def gone(self, number: int) -> None:
        """End a conversation: its client has gone."""
        if self._clients.pop(number, None) is not None:
            self._request.items.add(connection=number).gone.SetInParent()
            self._wake()

    async def end(self) -> None:
        """End the stream; clients that are still connected get UNAVAILABLE."""
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        problem = "ended by chat"
        try:
            async for response in self._call:
                self._silent = 0
                if response.draining:
                    self.open = False
                for item in response.items:
                    self._take_alone(item)
        except grpc.aio.AioRpcError as error:
            problem = error.code().name
        except asyncio.CancelledError:
            # Reading a call that was cancelled by ourselves ends so, too.
            problem = "given up"
        finally:
            self._lost(problem)

    def _take_alone(self, item: relay_pb2.ToClient) -> None:
        """Process an item; a failure ends its client's conversation only."""
        try:
            self._take(item)
        except Exception:  # noqa: BLE001  # whatever it is, the others go on
            _log.exception("client lost", instance=self.instance)
            if (client := self._clients.get(item.connection)) is not None:
                self.gone(item.connection)
                client.closed(errors_pb2.REASON_INTERNAL)

    def _take(self, item: relay_pb2.ToClient) -> None:
        number = item.connection
        client = self._clients.get(number)
        if client is None:
            # It has gone while this was on its way.
            return
        match item.WhichOneof("item"):
            case "message":
                client.deliver(item.message)
            case "taken":
                client.granted(item.taken)
            case "closed":
                del self._clients[number]
                client.closed(item.closed.reason)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._ended:
                if self._request.items:
                    await self._call.write(self._next())
                elif self._ask:
                    self._ask = False
                    await self._call.write(relay_service_pb2.RelayRequest())
                else:
                    self._sleeping = loop.create_future()
                    await self._sleeping
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream has ended; the reading half gets the reason.
            self._call.cancel()

    def _next(self) -> relay_service_pb2.RelayRequest:
        request, self._request = self._request, relay_service_pb2.RelayRequest()
        if self._size <= _BATCH_BYTES and len(request.items) <= _BATCH_ITEMS:
            self._size = 0
            return request
        first = relay_service_pb2.RelayRequest()
        count = size = 0
        for item in request.items:
            if count and (size + len(item.message) > _BATCH_BYTES or count == _BATCH_ITEMS):
                break
            count += 1
            size += len(item.message)
        first.items.extend(request.items[:count])
        self._request.items.extend(request.items[count:])
        self._size -= size
        return first

    def _look(self) -> None:
        """Look whether the instance still answers; looks are counted, not seconds, for we may have been frozen."""
        if self._ended:
            return
        if self._silent >= LOOKS:
            _log.warning("chat does not answer", instance=self.instance, clients=len(self._clients))
            self._call.cancel()
            return
        if self._silent:
            self._ask = True
            self._wake()
        self._silent += 1
        self._wheel.after(LOOK_S, self._look)

    def _lost(self, problem: str) -> None:
        self.open = False
        self._ended = True
        self._wake()
        self._on_end(self)
        clients, self._clients = list(self._clients.values()), {}
        _log.info("line ended", instance=self.instance, problem=problem, clients=len(clients))
        self._let_go(clients)

    def _let_go(self, clients: list[Client]) -> None:
        for client in clients[:_AT_ONCE]:
            client.closed(errors_pb2.REASON_UNAVAILABLE)
        if rest := clients[_AT_ONCE:]:
            self._wheel.after(_PAUSE_S, lambda: self._let_go(rest))

    def _wake(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)
