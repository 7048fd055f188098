"""What every open stream goes through, whichever way it came: admission, welcome, frames, age, goodbye."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import random
import time
from collections.abc import Sequence
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from octopus.chat.v1 import chat_service_pb2, frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused, refused_from
from mesh.rpc.principal import Principal
from mesh.rpc.revocations import Revocations
from mesh.rpc.validation import Invalid, violations_of
from services.chat import metrics
from services.chat.attach_queue import TooManyConnecting
from services.chat.config import ChatConfig
from services.chat.connection import Connection, Ending
from services.chat.conversation import Conversation, refusal_of
from services.chat.domain import OutOfOrder
from services.chat.inbox import Inbox
from services.chat.registry import ConnectionRegistry

_log = structlog.get_logger(__name__)

Request = chat_service_pb2.ConverseRequest

# Missed heartbeats after which a client is considered gone; how often this is checked in a heartbeat.
BEATS_MISSED: Final = 3
LOOKS_PER_BEAT: Final = 4
# Frames of one message, as the contract has it.
_MOST_FRAMES: Final = 64
# Clients that must connect again do so within this many seconds, not all at once.
_RECONNECT_SPREAD_S: Final = 2.0

# Seconds in which a goodbye must be read, and one after a revocation.
_GOODBYE_WITHIN_S: Final = 5.0
_LOG_OUT_WITHIN_S: Final = 1.0

CLIENT_DONE: Final = Ending(errors_pb2.REASON_UNSPECIFIED, "the client ended the stream", None)


class Streams:
    """Opens streams, deals with their frames, and ends those that are too old, dead, or in the way of a stop."""

    def __init__(
        self,
        config: ChatConfig,
        registry: ConnectionRegistry,
        conversation: Conversation,
        revocations: Revocations,
    ) -> None:
        self._config = config
        self._revocations = revocations
        self._registry = registry
        self._conversation = conversation
        self.draining = False

    def connect(self, principal: Principal, *, talks_back: bool) -> Connection:
        """Return a new connection of an admitted person.

        Raises:
            Refused: UNAVAILABLE, the instance is stopping.

        """
        if self.draining:
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

    async def welcome(self, connection: Connection, hello: frame_pb2.Hello) -> None:
        """Connect a person to their sessions, and queue the welcome before what they have missed.

        While too many connect it is a goodbye instead, with the time to come back.
        """
        cursors = {cursor.session_id: cursor.seq for cursor in hello.cursors}
        connection.device_id = hello.device_id
        try:
            sessions = await self._registry.attach(connection, cursors)
        except TooManyConnecting as refused:
            metrics.REFUSED.labels(refused.reason_name).inc()
            connection.end(Ending(refused.reason, refused.description, refused.retry_after))
            return
        # `log_out` ends the connections it finds; this one may have come in between.
        principal = connection.principal
        self._revocations.check(principal.tenant_id, principal.user_id, principal.generation)
        welcome = frame_pb2.Welcome(user_id=connection.principal.user_id, sessions=sessions)
        welcome.receipts.extend(await self._conversation.receipts(connection.principal, sessions))
        welcome.heartbeat.FromMilliseconds(int(self._config.heartbeat_s * 1000))
        ends_at = Timestamp()
        ends_at.FromMilliseconds(int((time.time() + connection.ends_at - time.monotonic()) * 1000))
        welcome.ends_at.CopyFrom(ends_at)
        connection.push_first(frame_pb2.ServerFrame(welcome=welcome))

    async def forget(self, connection: Connection) -> None:
        """Disconnect a person."""
        await self._registry.detach(connection)

    def inbox(self, connection: Connection, context: contextvars.Context | None = None) -> Inbox:
        """Return where the frames of a connection are put."""
        return Inbox(functools.partial(self._answer, connection), context)

    def take(self, request: Request | Invalid, connection: Connection, inbox: Inbox) -> None:
        """Process a message: answer, queue or refuse each of its frames.

        A bad frame costs its sender an answer, never the stream.
        """
        connection.heard_at = time.monotonic()
        if not connection.open:
            # It ends, perhaps because the person may not speak any more; nobody would hear the answer.
            return
        if isinstance(request, Invalid):
            self._take_invalid(request, connection, inbox)
            return
        for frame in request.frames:
            self.take_frame(frame, connection, inbox)

    def take_frame(self, frame: frame_pb2.ClientFrame, connection: Connection, inbox: Inbox) -> None:
        """Take a frame that keeps the rules of its contract."""
        match frame.WhichOneof("frame"):
            case "post" | "typing" | "receipt":
                inbox.put(frame)
            case "ping":
                connection.push(frame_pb2.ServerFrame(pong=frame_pb2.Pong(nonce=frame.ping.nonce)))
            case "hello":
                again = OutOfOrder("this stream has had its hello; open another stream for another one")
                _refuse(connection, refused_from(again), frame)

    def _take_invalid(self, invalid: Invalid, connection: Connection, inbox: Inbox) -> None:
        frames = _frames_of(invalid)
        if not frames:
            _refuse(connection, invalid.refused(), frame_pb2.ClientFrame())
        for frame in frames:
            if violations := violations_of(frame):
                _refuse(connection, Invalid(violations, frame).refused(), frame)
            else:
                self.take_frame(frame, connection, inbox)

    async def _answer(self, connection: Connection, frame: frame_pb2.ClientFrame) -> None:
        try:
            match frame.WhichOneof("frame"):
                case "post":
                    ack = await self._conversation.post(connection.principal, frame.post, connection)
                    connection.push(frame_pb2.ServerFrame(ack=ack))
                case "typing":
                    await self._conversation.typing(connection.principal, frame.typing, connection)
                case "receipt":
                    await self._conversation.receive(connection.principal, frame.receipt, connection)
        except Exception as error:  # noqa: BLE001  # whatever it is, the stream goes on
            refused = refused_from(error)
            if refused.reason == errors_pb2.REASON_INTERNAL:
                _log.exception("frame failed", frame=frame.WhichOneof("frame"))
            _refuse(connection, refused, frame)

    async def watch(self) -> None:
        """Ask quiet connections for a sign of life, and end those that are dead or too old. Runs until cancelled."""
        beat = self._config.heartbeat_s
        while True:
            await asyncio.sleep(beat / LOOKS_PER_BEAT)
            now = time.monotonic()
            for connection in self._registry.connections:
                if not connection.open:
                    connection.abandon(now=now, after=_GOODBYE_WITHIN_S)
                elif connection.ends_at <= now:
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

    def log_out(self, tenant_id: str, user_id: int, generation: int, refused: Refused) -> None:
        """End a user's connections whose token was revoked, with a goodbye."""
        for connection in self._registry.connections_of(tenant_id, user_id):
            if connection.principal.generation < generation:
                connection.end(Ending(refused.reason, refused.description, None))
                asyncio.get_running_loop().call_later(_LOG_OUT_WITHIN_S, _give_up, connection)

    def drain(self) -> None:
        """End all connections with a goodbye: this instance stops, and clients reconnect to another one."""
        self.draining = True
        for connection in self._registry.connections:
            connection.end(_going_away())


def _give_up(connection: Connection) -> None:
    connection.abandon(now=time.monotonic(), after=0.0)


def hello_of(request: Request | Invalid) -> tuple[frame_pb2.Hello, Sequence[frame_pb2.ClientFrame]]:
    """Return the hello of a stream's first message, and what came with it.

    Raises:
        Refused: the message breaks its contract.
        OutOfOrder: it does not begin with a hello.

    """
    if isinstance(request, Invalid):
        raise request.refused()
    if not request.frames[0].HasField("hello"):
        raise OutOfOrder("the first frame must be a hello")
    return request.frames[0].hello, request.frames[1:]


def _refuse(connection: Connection, refused: Refused, frame: frame_pb2.ClientFrame) -> None:
    metrics.REFUSED.labels(refused.reason_name).inc()
    connection.push(frame_pb2.ServerFrame(refusal=refusal_of(refused, frame)))


def _frames_of(invalid: Invalid) -> Sequence[frame_pb2.ClientFrame]:
    """Return the frames of a message of which some frame breaks a rule; none when the message itself does."""
    message = invalid.message
    if not isinstance(message, Request) or not 0 < len(message.frames) <= _MOST_FRAMES:
        return ()
    return message.frames


def _too_old(connection: Connection) -> Ending:
    expires_at = connection.principal.expires_at
    if expires_at is not None and expires_at <= time.time() + 1:
        return Ending(errors_pb2.REASON_TOKEN_EXPIRED, "the token ended; refresh it, connect again and resume", 0.0)
    return Ending(errors_pb2.REASON_STREAM_TOO_OLD, "the stream reached its maximum age; connect again and resume", 0.0)


def _going_away() -> Ending:
    return Ending(errors_pb2.REASON_UNAVAILABLE, "this instance is stopping; connect again and resume", _spread())


def _spread() -> float:
    return random.random() * _RECONNECT_SPREAD_S  # noqa: S311  # spreads load, guards nothing
