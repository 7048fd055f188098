"""The wire: `Converse`, `Subscribe` and `Send` on one conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import structlog
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused
from mesh.rpc.metadata import ACCEPTED
from mesh.rpc.principal import current
from mesh.rpc.validation import Invalid, takes_invalid
from services.chat import metrics
from services.chat.connection import Connection, CutOff
from services.chat.conversation import Conversation
from services.chat.domain import OutOfOrder
from services.chat.follower import BROKEN
from services.chat.inbox import Inbox
from services.chat.streams import CLIENT_DONE, Request, Streams, hello_of

_log = structlog.get_logger(__name__)

# Seconds a client has for its hello.
_HELLO_WITHIN_S = 10.0


class ChatServicer(chat_service_pb2_grpc.ChatServiceServicer):
    """Streams and calls of the chat service."""

    def __init__(self, streams: Streams, conversation: Conversation) -> None:
        self._streams = streams
        self._conversation = conversation

    @takes_invalid
    async def Converse(
        self,
        request_iterator: AsyncIterator[Request | Invalid],
        context: grpc.aio.ServicerContext[Request, chat_service_pb2.ConverseResponse],
    ) -> None:
        """Carry a conversation in both directions."""
        # The call has passed the interceptors: the client may send.
        await context.send_initial_metadata(((ACCEPTED, "1"),))
        requests = aiter(request_iterator)
        hello, rest = await _first_hello(requests)
        connection = self._streams.connect(current(), talks_back=True)
        inbox = self._streams.inbox(connection)
        reader: asyncio.Task[None] | None = None
        try:
            await self._streams.welcome(connection, hello)
            reader = asyncio.create_task(self._read(rest, requests, connection, inbox), name="read-frames")
            await _write(connection, context)
        finally:
            if reader is not None:
                reader.cancel()
            inbox.close()
            await self._streams.forget(connection)

    async def Subscribe(
        self,
        request: chat_service_pb2.SubscribeRequest,
        context: grpc.aio.ServicerContext[chat_service_pb2.SubscribeRequest, chat_service_pb2.SubscribeResponse],
    ) -> None:
        """Carry the server's half of a conversation."""
        connection = self._streams.connect(current(), talks_back=False)
        try:
            await self._streams.welcome(connection, request.hello)
            await _write(connection, context)
        finally:
            await self._streams.forget(connection)

    async def Send(
        self,
        request: chat_service_pb2.SendRequest,
        context: grpc.aio.ServicerContext[chat_service_pb2.SendRequest, chat_service_pb2.SendResponse],
    ) -> chat_service_pb2.SendResponse:
        """Take one frame of the client's half."""
        principal = current()
        match request.WhichOneof("action"):
            case "post":
                return chat_service_pb2.SendResponse(ack=await self._conversation.post(principal, request.post))
            case "typing":
                await self._conversation.typing(principal, request.typing)
            case "receipt":
                await self._conversation.receive(principal, request.receipt)
        return chat_service_pb2.SendResponse()

    async def _read(
        self,
        rest: Sequence[frame_pb2.ClientFrame],
        requests: AsyncIterator[Request | Invalid],
        connection: Connection,
        inbox: Inbox,
    ) -> None:
        """Take the client's messages, no faster than they are dealt with. A failure ends the stream."""
        try:
            for frame in rest if connection.open else ():
                self._streams.take_frame(frame, connection, inbox)
            await inbox.room()
            async for request in requests:
                self._streams.take(request, connection, inbox)
                await inbox.room()
        except Exception:  # noqa: BLE001  # logged in full; nobody would hear the client any more
            _log.exception("client's messages not read")
            connection.end(BROKEN)
            return
        # The client has ended its half.
        inbox.when_idle(lambda: connection.end(CLIENT_DONE))


async def _write(connection: Connection, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    try:
        # Frames are encoded already: the server passes bytes on as they are.
        await connection.pump(context.write)
    except CutOff as cut_off:
        metrics.ENDED.labels(errors_pb2.Reason.Name(cut_off.ending.reason)).inc()
        raise Refused(
            cut_off.ending.reason, cut_off.ending.description, retry_after=cut_off.ending.reconnect_after
        ) from None


async def _first_hello(
    requests: AsyncIterator[Request | Invalid],
) -> tuple[frame_pb2.Hello, Sequence[frame_pb2.ClientFrame]]:
    """Return the hello, and what came with it in the same message."""
    try:
        async with asyncio.timeout(_HELLO_WITHIN_S):
            return hello_of(await anext(requests))
    except StopAsyncIteration:
        raise OutOfOrder("the stream ended before its hello") from None
    except TimeoutError:
        raise OutOfOrder(f"no hello came within {_HELLO_WITHIN_S:.0f} s") from None
