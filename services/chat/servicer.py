"""The wire: `Converse`, `Subscribe` and `Send` on one conversation."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused, refused_from
from mesh.rpc.metadata import ACCEPTED
from mesh.rpc.principal import Principal, current
from mesh.rpc.validation import Invalid, takes_invalid, violations_of
from services.chat import metrics
from services.chat.config import ChatConfig
from services.chat.connection import Connection, CutOff, Ending
from services.chat.conversation import Conversation, refusal_of
from services.chat.domain import OutOfOrder
from services.chat.registry import ConnectionRegistry

_log = structlog.get_logger(__name__)

Request = chat_service_pb2.ConverseRequest

# Seconds a client has for its hello.
_HELLO_WITHIN_S = 10.0
# A client that was not heard for so many heartbeats is gone; how often in a heartbeat that is looked at.
BEATS_MISSED = 3
LOOKS_PER_BEAT = 4
# Frames of one message, as the contract has it.
_MOST_FRAMES = 64
# Clients that must connect again do so within this many seconds, not all at once.
_RECONNECT_SPREAD_S = 2.0


class ChatServicer(chat_service_pb2_grpc.ChatServiceServicer):
    """Streams and calls of the chat service."""

    def __init__(self, config: ChatConfig, registry: ConnectionRegistry, conversation: Conversation) -> None:
        self._config = config
        self._registry = registry
        self._conversation = conversation
        self._draining = False

    @takes_invalid
    async def Converse(
        self,
        request_iterator: AsyncIterator[Request | Invalid],
        context: grpc.aio.ServicerContext[Request, chat_service_pb2.ConverseResponse],
    ) -> None:
        """Carry a conversation in both directions."""
        # The caller may speak now: it has passed the interceptors.
        await context.send_initial_metadata(((ACCEPTED, "1"),))
        requests = aiter(request_iterator)
        hello, rest = await _first_hello(requests)
        connection = self._connect(current(), talks_back=True)
        reader: asyncio.Task[None] | None = None
        try:
            await self._welcome(connection, hello)
            reader = asyncio.create_task(self._read(rest, requests, connection), name="read-frames")
            await self._write(connection, context)
        finally:
            if reader is not None:
                reader.cancel()
            await self._registry.detach(connection)

    async def Subscribe(
        self,
        request: chat_service_pb2.SubscribeRequest,
        context: grpc.aio.ServicerContext[chat_service_pb2.SubscribeRequest, chat_service_pb2.SubscribeResponse],
    ) -> None:
        """Carry the server's half of a conversation."""
        connection = self._connect(current(), talks_back=False)
        try:
            await self._welcome(connection, request.hello)
            await self._write(connection, context)
        finally:
            await self._registry.detach(connection)

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

    async def watch(self) -> None:
        """Ask quiet connections for a sign of life, and end those that are dead or too old. Runs until cancelled."""
        beat = self._config.heartbeat_s
        while True:
            await asyncio.sleep(beat / LOOKS_PER_BEAT)
            now = time.monotonic()
            for connection in self._registry.connections:
                if connection.ends_at <= now:
                    connection.end(_too_old(connection))
                elif connection.talks_back and now - connection.heard_at >= BEATS_MISSED * beat:
                    connection.cut(
                        Ending(
                            errors_pb2.REASON_HEARTBEAT_MISSED,
                            f"nothing was heard for {BEATS_MISSED * beat:.0f} s; connect again and resume",
                            0.0,
                        )
                    )
                elif now - max(connection.pinged_at, connection.heard_at) >= beat:
                    connection.pinged_at = now
                    ping = frame_pb2.Ping(nonce=int(now * 1000))
                    connection.push(frame_pb2.ServerFrame(ping=ping))

    def drain(self) -> None:
        """Say goodbye to everybody: this instance stops, another one takes over."""
        self._draining = True
        for connection in self._registry.connections:
            connection.end(_going_away())

    def _connect(self, principal: Principal, *, talks_back: bool) -> Connection:
        if self._draining:
            raise Refused(
                errors_pb2.REASON_UNAVAILABLE, "this instance is stopping; connect again", retry_after=_spread()
            )
        now = time.monotonic()
        ends_at = now + self._config.max_stream_age_s
        if principal.expires_at is not None:
            ends_at = min(ends_at, now + principal.expires_at - time.time())
        return Connection(
            principal,
            now=now,
            ends_at=ends_at,
            max_frames=self._config.buffer_frames,
            max_bytes=self._config.buffer_bytes,
            talks_back=talks_back,
        )

    async def _welcome(self, connection: Connection, hello: frame_pb2.Hello) -> None:
        cursors = {cursor.session_id: cursor.seq for cursor in hello.cursors}
        sessions = await self._registry.attach(connection, cursors)
        welcome = frame_pb2.Welcome(user_id=connection.principal.user_id, sessions=sessions)
        welcome.receipts.extend(await self._conversation.receipts(connection.principal, sessions))
        welcome.heartbeat.FromMilliseconds(int(self._config.heartbeat_s * 1000))
        ends_at = Timestamp()
        ends_at.FromMilliseconds(int((time.time() + connection.ends_at - time.monotonic()) * 1000))
        welcome.ends_at.CopyFrom(ends_at)
        connection.push_first(frame_pb2.ServerFrame(welcome=welcome))

    async def _write(self, connection: Connection, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            # Frames are encoded already: the server passes bytes on as they are.
            await connection.pump(context.write)
        except CutOff as cut_off:
            metrics.ENDED.labels(errors_pb2.Reason.Name(cut_off.ending.reason)).inc()
            raise Refused(
                cut_off.ending.reason, cut_off.ending.description, retry_after=cut_off.ending.reconnect_after
            ) from None

    async def _read(
        self, rest: Sequence[frame_pb2.ClientFrame], requests: AsyncIterator[Request | Invalid], connection: Connection
    ) -> None:
        """Take the client's frames one after the other: a message waits for the one before it to be durable."""
        for frame in rest:
            await self._answer(frame, connection)
        async for request in requests:
            connection.heard_at = time.monotonic()
            if not isinstance(request, Invalid):
                for frame in request.frames:
                    await self._answer(frame, connection)
                continue
            frames = _frames_of(request)
            if not frames:
                _refuse(connection, request.refused(), frame_pb2.ClientFrame())
            for frame in frames:
                await self._answer(frame, connection, checked=False)
        # The client has said all it will say.
        connection.end(Ending(errors_pb2.REASON_UNSPECIFIED, "the client ended the stream", None))

    async def _answer(self, frame: frame_pb2.ClientFrame, connection: Connection, *, checked: bool = True) -> None:
        """Take a frame, or say why not: a bad frame costs its sender an answer, never the stream."""
        if not checked and (violations := violations_of(frame)):
            _refuse(connection, Invalid(violations, frame).refused(), frame)
            return
        try:
            answer = await self._take(frame, connection)
        except Exception as error:  # noqa: BLE001  # whatever it is, the stream goes on
            refused = refused_from(error)
            if refused.reason == errors_pb2.REASON_INTERNAL:
                _log.exception("frame failed", frame=frame.WhichOneof("frame"))
            _refuse(connection, refused, frame)
        else:
            if answer is not None:
                connection.push(answer)

    async def _take(self, frame: frame_pb2.ClientFrame, connection: Connection) -> frame_pb2.ServerFrame | None:
        match frame.WhichOneof("frame"):
            case "post":
                ack = await self._conversation.post(connection.principal, frame.post, connection)
                return frame_pb2.ServerFrame(ack=ack)
            case "typing":
                await self._conversation.typing(connection.principal, frame.typing, connection)
            case "receipt":
                await self._conversation.receive(connection.principal, frame.receipt, connection)
            case "ping":
                return frame_pb2.ServerFrame(pong=frame_pb2.Pong(nonce=frame.ping.nonce))
            case "hello":
                raise OutOfOrder("this stream has had its hello; open another stream for another one")
        return None


def _refuse(connection: Connection, refused: Refused, frame: frame_pb2.ClientFrame) -> None:
    metrics.REFUSED.labels(refused.reason_name).inc()
    connection.push(frame_pb2.ServerFrame(refusal=refusal_of(refused, frame)))


def _frames_of(invalid: Invalid) -> Sequence[frame_pb2.ClientFrame]:
    """Return the frames of a message of which some frame breaks a rule; none when the message itself does."""
    message = invalid.message
    if not isinstance(message, Request) or not 0 < len(message.frames) <= _MOST_FRAMES:
        return ()
    return message.frames


async def _first_hello(
    requests: AsyncIterator[Request | Invalid],
) -> tuple[frame_pb2.Hello, Sequence[frame_pb2.ClientFrame]]:
    """Return the hello, and what came with it in the same message."""
    try:
        async with asyncio.timeout(_HELLO_WITHIN_S):
            request = await anext(requests)
    except StopAsyncIteration:
        raise OutOfOrder("the stream ended before its hello") from None
    except TimeoutError:
        raise OutOfOrder(f"no hello came within {_HELLO_WITHIN_S:.0f} s") from None
    if isinstance(request, Invalid):
        raise request.refused()
    if not request.frames[0].HasField("hello"):
        raise OutOfOrder("the first frame must be a hello")
    return request.frames[0].hello, request.frames[1:]


def _too_old(connection: Connection) -> Ending:
    expires_at = connection.principal.expires_at
    if expires_at is not None and expires_at <= time.time() + 1:
        return Ending(errors_pb2.REASON_TOKEN_EXPIRED, "the token ended; refresh it, connect again and resume", 0.0)
    return Ending(errors_pb2.REASON_STREAM_TOO_OLD, "the stream reached its maximum age; connect again and resume", 0.0)


def _going_away() -> Ending:
    return Ending(errors_pb2.REASON_UNAVAILABLE, "this instance is stopping; connect again and resume", _spread())


def _spread() -> float:
    return random.random() * _RECONNECT_SPREAD_S  # noqa: S311  # spreads load, guards nothing
