"""A person in a conversation who never gives up: connects again, resumes, and sends again what was not acknowledged.

What the web pages do in TypeScript, this does for tests, the demo and benchmarks. It also keeps the books: what was
acknowledged, what was shown, and in which order.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
from octopus.chat.v1 import frame_pb2, message_pb2
from octopus.session.v1 import session_pb2
from websockets.exceptions import WebSocketException

from e2e.clients.edge import Identity
from e2e.clients.transports import Stream, Transport

_PAUSES_S = (0.1, 0.2, 0.5, 1.0)
# Seconds after which a message without an acknowledgement is sent on a new stream, as the contract asks of clients.
_PATIENCE_S = 5.0
# Seconds in which a new stream must be welcomed.
_WELCOME_WITHIN_S = 10.0


class RefusedError(Exception):
    """A message was refused; carries the refusal."""

    def __init__(self, refusal: frame_pb2.Refusal) -> None:
        super().__init__(refusal.description)
        self.refusal = refusal


class Participant:
    """One device of one person."""

    def __init__(self, identity: Identity, transport: Transport) -> None:
        self.identity = identity
        self.transport = transport
        # Everything shown, in the order of arrival: own messages when acknowledged, the others' when they come.
        self.shown: list[message_pb2.Message] = []
        # Acknowledgements by client message id.
        self.acks: dict[str, frame_pb2.Ack] = {}
        self.sessions: dict[int, session_pb2.Session] = {}
        # Every frame that was refused, besides messages.
        self.refusals: list[frame_pb2.Refusal] = []
        self.goodbyes: list[frame_pb2.Goodbye] = []
        self.connects = 0
        self._cursors: dict[int, int] = {}
        self._waiting: dict[str, tuple[frame_pb2.PostMessage, asyncio.Future[frame_pb2.Ack]]] = {}
        self._known: set[int] = set()
        self._stream: Stream | None = None
        # When the messages that wait were sent on the stream as it is now, by client message id.
        self._sent_at: dict[str, float] = {}
        # When the stream is given up.
        self._limit: asyncio.Timeout | None = None
        self._changed = asyncio.Condition()
        self.online = asyncio.Event()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Participant]:
        """Stay connected until the block ends."""
        task = asyncio.create_task(self._stay(), name="participant")
        try:
            async with asyncio.timeout(30):
                await self.online.wait()
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def say(self, session_id: int, text: str, *, timeout: float = 60) -> frame_pb2.Ack:
        """Send a text and return when it is durable. Raises `RefusedError`."""
        post = frame_pb2.PostMessage(
            session_id=session_id,
            client_message_id=secrets.token_hex(8),
            content=message_pb2.Content(text=message_pb2.Text(text=text)),
        )
        return await self.post(post, timeout=timeout)

    async def post(self, post: frame_pb2.PostMessage, *, timeout: float = 60) -> frame_pb2.Ack:
        """Send a message and return when it is durable; sends it again after every break."""
        answer: asyncio.Future[frame_pb2.Ack] = asyncio.get_running_loop().create_future()
        self._waiting[post.client_message_id] = (post, answer)
        await self._try(frame_pb2.ClientFrame(post=post))
        async with asyncio.timeout(timeout):
            return await answer

    async def until(self, condition: Callable[[Participant], bool], *, timeout: float = 30) -> None:
        """Wait until something is true of what has arrived."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    def texts(self, session_id: int) -> list[str]:
        """Return what was said in a session, by position in the log."""
        messages = sorted((m for m in self.shown if m.session_id == session_id), key=lambda m: m.seq)
        return [_words(m) for m in messages if _words(m)]

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        """Send any frame on the stream as it is now."""
        if self._stream is None:
            raise ConnectionError("not connected")
        await self._stream.send(frame)

    async def _stay(self) -> None:
        failures = 0
        while True:
            try:
                await self._once()
                failures = 0
            except asyncio.CancelledError:
                # Whoever is cancelled while he writes takes the whole gRPC call with him; that is a break like others.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                failures += 1
            except (
                grpc.aio.AioRpcError,
                asyncio.InvalidStateError,
                WebSocketException,
                OSError,
                ssl.SSLError,
                TimeoutError,
            ):
                failures += 1
            finally:
                self._stream = None
                self._sent_at.clear()
                self.online.clear()
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])

    async def _once(self) -> None:
        hello = frame_pb2.Hello(
            cursors=[frame_pb2.Cursor(session_id=session, seq=seq) for session, seq in self._cursors.items()]
        )
        async with (
            asyncio.timeout(_WELCOME_WITHIN_S) as self._limit,
            self.transport.open(self.identity, hello) as stream,
        ):
            async for frame in stream.frames():
                await self._take(frame, stream)
                async with self._changed:
                    self._changed.notify_all()

    async def _take(self, frame: frame_pb2.ServerFrame, stream: Stream) -> None:
        match frame.WhichOneof("frame"):
            case "welcome":
                self.connects += 1
                self._stream = stream
                for session in frame.welcome.sessions:
                    self._learn(session)
                self._be_patient()
                for post, _ in list(self._waiting.values()):
                    self._note(post)
                    await stream.send(frame_pb2.ClientFrame(post=post))
                self.online.set()
            case "message":
                self._show(frame.message)
            case "ack":
                self._acknowledge(frame.ack)
            case "refusal":
                self._refuse(frame.refusal)
            case "session":
                self._learn(frame.session.session)
            case "ping":
                await stream.send(frame_pb2.ClientFrame(pong=frame_pb2.Pong(nonce=frame.ping.nonce)))
            case "goodbye":
                self.goodbyes.append(frame.goodbye)

    def _show(self, message: message_pb2.Message) -> None:
        # Positions move by messages only: an acknowledgement may overtake somebody else's message.
        self._cursors[message.session_id] = max(self._cursors.get(message.session_id, 0), message.seq)
        if message.content.HasField("change"):
            self._learn(message.content.change.session)
        if message.id not in self._known:
            self._known.add(message.id)
            self.shown.append(message)

    def _acknowledge(self, ack: frame_pb2.Ack) -> None:
        post, answer = self._waiting.pop(ack.client_message_id, (None, None))
        self._answered(ack.client_message_id)
        if post is None or answer is None:
            return
        self.acks[ack.client_message_id] = ack
        if ack.message_id not in self._known:
            self._known.add(ack.message_id)
            self.shown.append(
                message_pb2.Message(
                    id=ack.message_id,
                    session_id=ack.session_id,
                    seq=ack.seq,
                    client_message_id=ack.client_message_id,
                    sender=message_pb2.Sender(user_id=self.identity.user_id),
                    sent_at=ack.sent_at,
                    content=post.content,
                )
            )
        if not answer.done():
            answer.set_result(ack)

    def _refuse(self, refusal: frame_pb2.Refusal) -> None:
        self._answered(refusal.client_message_id)
        if refusal.client_message_id in self._waiting and not refusal.HasField("retry_after"):
            _, answer = self._waiting.pop(refusal.client_message_id)
            if not answer.done():
                answer.set_exception(RefusedError(refusal))
            return
        self.refusals.append(refusal)
        if refusal.client_message_id in self._waiting:
            pause = refusal.retry_after.ToMilliseconds() / 1000
            post, _ = self._waiting[refusal.client_message_id]
            asyncio.get_running_loop().call_later(
                pause, lambda: asyncio.ensure_future(self._try(frame_pb2.ClientFrame(post=post)))
            )

    def _learn(self, session: session_pb2.Session) -> None:
        known = self.sessions.get(session.id)
        if known is None or session.version >= known.version:
            self.sessions[session.id] = session

    async def _try(self, frame: frame_pb2.ClientFrame) -> None:
        """Send now when connected; the next welcome sends it again otherwise."""
        if self._stream is not None:
            if frame.HasField("post"):
                self._note(frame.post)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, WebSocketException, OSError):
                await self._stream.send(frame)

    def _note(self, post: frame_pb2.PostMessage) -> None:
        self._sent_at[post.client_message_id] = asyncio.get_running_loop().time()
        self._be_patient()

    def _answered(self, client_message_id: str) -> None:
        self._sent_at.pop(client_message_id, None)
        self._be_patient()

    def _be_patient(self) -> None:
        """Give the stream as long as the oldest message without an answer has left."""
        if self._limit is not None and self._stream is not None and not self._limit.expired():
            self._limit.reschedule(min(self._sent_at.values()) + _PATIENCE_S if self._sent_at else None)


def _words(message: message_pb2.Message) -> str:
    match message.content.WhichOneof("kind"):
        case "text":
            return message.content.text.text
        case "answer":
            return message.content.answer.text
        case None:
            return message.content.fallback_text
    return ""
