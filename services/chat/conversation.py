"""What a participant can do in a conversation, whichever of the three ways the frame came."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from octopus.chat.v1 import chat_events_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import Bus
from mesh.errors import Refused, refused_from
from mesh.rpc.kinds import is_internal
from mesh.rpc.principal import Principal
from mesh.stores.courtesy import Courtesy
from services.chat.connection import Connection
from services.chat.domain import (
    ChatError,
    NotYourTurn,
    SensitiveText,
    SessionOver,
    Speaker,
    TooLate,
    UnknownMessage,
    UnknownSession,
    check_may_speak,
)
from services.chat.posting import Posting, sender_of, speaker_of
from services.chat.rate_limit import RateLimit
from services.chat.registry import ConnectionRegistry
from services.chat.room import participation
from services.chat.store import Mark, Receipts

# What passes by itself: a message so refused is sent again, which is harmless if it was stored after all. Without a
# time to wait, clients take a refusal for final.
_PASSING: Final = (errors_pb2.REASON_UNAVAILABLE, errors_pb2.REASON_DEADLINE_EXCEEDED)
_AGAIN_S: Final = 1.0


class Conversation:
    """Posts, typing signs and receipts of one caller after another.

    A person may send `burst` messages at once and `per_second` on the whole, and `SIGNS` times as many signs and
    receipts: they cost little, but whoever sends them without end fills the buffers of the others.
    """

    SIGNS: ClassVar = 4

    def __init__(
        self,
        registry: ConnectionRegistry,
        posting: Posting,
        receipts: Receipts,
        bus: Bus,
        *,
        burst: float,
        per_second: float,
    ) -> None:
        self._messages = RateLimit(burst=burst, per_second=per_second)
        self._signs = RateLimit(burst=self.SIGNS * burst, per_second=self.SIGNS * per_second)
        self._registry = registry
        self._posting = posting
        self._receipts = receipts
        self._keeping = Courtesy("receipt kept")
        self._reading = Courtesy("receipts read")
        self._bus = bus

    async def post(
        self, principal: Principal, post: frame_pb2.PostMessage, connection: Connection | None = None
    ) -> frame_pb2.Ack:
        """Put a message into the log, unless it is there already. Raises `ChatError` or `Refused`."""
        if not principal.is_service:
            self._messages.spend(principal)
        session: session_pb2.Session | None = None
        try:
            if is_internal(post.content) and speaker_of(principal) is Speaker.AGENT:
                # Staff write notes in sessions that they see, without taking part.
                session = await self._seen(principal, post.session_id)
            else:
                session = await self._session(principal, post.session_id, connection)
            return await self._post(principal, session, post, connection)
        except (NotYourTurn, SensitiveText, SessionOver, UnknownSession, UnknownMessage, TooLate):
            # What is new may not be said here any more; what is stored already is acknowledged as it was.
            again = await self._posting.acknowledge_again(principal, session, post)
            if again is None:
                raise
            return again

    async def _post(
        self,
        principal: Principal,
        session: session_pb2.Session,
        post: frame_pb2.PostMessage,
        connection: Connection | None,
    ) -> frame_pb2.Ack:
        follower = self._registry.follower(connection, session.id) if connection is not None else None
        own = follower.own_posts if follower is not None else None
        try:
            ack = await self._posting.post(principal, session, post, own)
        except (NotYourTurn, SessionOver, UnknownSession) as refused:
            # An agent who has just accepted may be ahead of the event that says so.
            fresh = await self._registry.refetch(principal, post.session_id)
            if fresh is None or fresh.version <= session.version:
                raise refused from None
            ack = await self._posting.post(principal, fresh, post, own)
        if follower is not None and follower.seen >= ack.seq:
            # Its echo has been left out already, or will not come.
            follower.own_posts.discard(ack.message_id)
        return ack

    async def typing(
        self, principal: Principal, typing: frame_pb2.Typing, connection: Connection | None = None
    ) -> None:
        """Show the others that the caller is typing. A sign that comes at the wrong time is dropped."""
        if not principal.is_service:
            self._signs.spend(principal)
        session = await self._session(principal, typing.session_id, connection)
        try:
            check_may_speak(participation(session), speaker_of(principal), principal.user_id)
        except (NotYourTurn, SessionOver):
            return
        sign = frame_pb2.Typing(session_id=session.id, sender=sender_of(principal))
        await self._bus.signal(_signals(session), chat_events_pb2.Signal(typing=sign))

    async def receive(
        self, principal: Principal, receipt: frame_pb2.Receipt, connection: Connection | None = None
    ) -> None:
        """Move the caller's marks forward and show the others.

        Marks are a courtesy: when Valkey does not answer they are shown but not kept.
        """
        self._signs.spend(principal)
        session = await self._session(principal, receipt.session_id, connection)
        if not participation(session).includes(principal.user_id):
            return
        mark = Mark(max(receipt.delivered_seq, receipt.read_seq), receipt.read_seq)
        mark = await self._keeping.attempt(
            lambda: self._receipts.advance(session.tenant_id, session.id, principal.user_id, mark), mark
        )
        shown = frame_pb2.Receipt(
            session_id=session.id,
            delivered_seq=mark.delivered_seq,
            read_seq=mark.read_seq,
            sender=sender_of(principal),
        )
        await self._bus.signal(_signals(session), chat_events_pb2.Signal(receipt=shown))

    async def receipts(self, principal: Principal, sessions: Sequence[session_pb2.Session]) -> list[frame_pb2.Receipt]:
        """Return how far the others have got in these sessions; nothing when Valkey does not answer."""

        async def read() -> list[Mapping[int, Mark]]:
            return await asyncio.gather(*(self._receipts.of(session.tenant_id, session.id) for session in sessions))

        unknown: list[Mapping[int, Mark]] = []
        marks = await self._reading.attempt(read, unknown)
        return [
            frame_pb2.Receipt(
                session_id=session.id,
                delivered_seq=mark.delivered_seq,
                read_seq=mark.read_seq,
                sender=message_pb2.Sender(
                    user_id=user_id,
                    kind=(
                        message_pb2.SENDER_KIND_CUSTOMER
                        if user_id == session.customer_id
                        else message_pb2.SENDER_KIND_AGENT
                    ),
                ),
            )
            for session, of_session in zip(sessions, marks, strict=False)
            for user_id, mark in of_session.items()
            if user_id != principal.user_id
        ]

    async def _seen(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Return a session that the caller may see, as the session service says now."""
        session = await self._registry.refetch(principal, session_id)
        if session is None:
            raise UnknownSession("no such session among those that you may see")
        return session

    async def _session(
        self, principal: Principal, session_id: int, connection: Connection | None
    ) -> session_pb2.Session:
        if connection is not None:
            return await self._registry.follow(connection, session_id)
        session = await self._registry.session(principal, session_id)
        if speaker_of(principal) is not Speaker.BOT and not participation(session).includes(principal.user_id):
            raise UnknownSession("no such session among yours")
        return session


def refusal_of(error: ChatError | Refused | Exception, frame: frame_pb2.ClientFrame) -> frame_pb2.Refusal:
    """Return the refusal of one of the client's frames."""
    refused = refused_from(error)
    refusal = frame_pb2.Refusal(reason=refused.reason, description=refused.description)
    if refused.violations:
        refusal.description = "; ".join(f"{field}: {problem}" for field, problem in refused.violations)
    retry_after = refused.retry_after
    if retry_after is None and refused.reason in _PASSING:
        retry_after = _AGAIN_S
    if retry_after is not None:
        refusal.retry_after.FromMilliseconds(int(retry_after * 1000))
    match frame.WhichOneof("frame"):
        case "post":
            refusal.client_message_id = frame.post.client_message_id
            refusal.session_id = frame.post.session_id
        case "typing":
            refusal.session_id = frame.typing.session_id
        case "receipt":
            refusal.session_id = frame.receipt.session_id
    return refusal


def _signals(session: session_pb2.Session) -> str:
    return f"live.{session.tenant_id}.{session.id}.signal"
