"""What the bot consumes: the log of all conversations. It publishes nothing itself; it posts through the chat service.

The bus delivers an entry again until it is handled, keeps the order within a session, and continues with other sessions
meanwhile. Repetition is harmless: an answer carries the same `client_message_id` each time, and asking for a handoff
again changes nothing.

**Never after an agent has accepted.** An answer is posted with `expected_last_seq`: it is refused when the log of the
session has gone on. Then the bot reads what came and decides again. Until an agent accepts, it goes on answering what
it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from octopus.chat.v1 import chat_events_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import Delivery, Poison, StoredMessage, parse
from mesh.errors import Refused
from mesh.rpc.metadata import Metadata, as_service
from services.bot import wire
from services.bot.answering import Answering
from services.bot.domain import Care, Reply, may_say
from services.bot.intent import Intent, understand

_log = structlog.get_logger(__name__)

# An entry that comes within this time is answered without a look at what came after it: the log refuses the answer
# when something did.
_AT_ONCE: Final = timedelta(seconds=1)
# Entries of the log read after an answer was refused.
_READ: Final = 100
# How often an answer is posted again after the log has gone on.
_ATTEMPTS: Final = 5

# The bot may no longer post in the session: nothing remains to be done.
_OVER: Final = frozenset(
    {errors_pb2.REASON_SESSION_STATE, errors_pb2.REASON_SESSION_ENDED, errors_pb2.REASON_NOT_FOUND}
)

Entry = chat_events_pb2.LogEntry


class Chat(Protocol):
    """The chat service."""

    async def post(self, post: frame_pb2.PostMessage, caller: Metadata) -> frame_pb2.Ack:
        """Post a message; return when it is durable. Raise `Refused`."""
        ...

    async def typing(self, session_id: int, caller: Metadata) -> None:
        """Show that an answer is coming. Raise `Refused`."""
        ...


class Sessions(Protocol):
    """The session service."""

    async def request_handoff(
        self, session_id: int, reason: session_pb2.HandoffReason.ValueType, caller: Metadata
    ) -> None:
        """Ask for a person. Raise `Refused`."""
        ...


class Log(Protocol):
    """The log of all conversations."""

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return the entries of a session after a position, in order."""
        ...


class Participant:
    """The bot as a participant of conversations."""

    def __init__(self, *, answering: Answering, chat: Chat, sessions: Sessions, log: Log) -> None:
        self._answering = answering
        self._chat = chat
        self._sessions = sessions
        self._log = log

    async def take(self, delivery: Delivery[Entry]) -> None:
        """Handle one entry of the log. Raise `Refused` when a service is unreachable: the bus redelivers the entry."""
        entry = delivery.message
        message = entry.message
        if not is_for_the_bot(entry):
            return
        if delivery.subject != f"log.{entry.tenant_id}.{message.session_id}":
            raise Poison("the entry is not of the session that its subject names")
        if await self._was_taken_back(delivery):
            return
        care = care_in(entry.session_state)
        caller = as_service(entry.tenant_id, affinity=entry.customer_id)
        intent = understand(message.content.text.text).intent
        if care is Care.MEANWHILE and intent is not Intent.QUESTION:
            return
        try:
            if care is Care.ALONE and intent is not Intent.PERSON:
                await self._show_typing(message.session_id, caller)
            reply = await self._answering.reply(message.content.text.text, as_service(entry.tenant_id))
            if reply.hands_over:
                reason = session_pb2.HANDOFF_REASON_WORDS
                await self._sessions.request_handoff(message.session_id, reason, caller)
                _log.info("handed over", tenant=entry.tenant_id, session=message.session_id)
            elif may_say(reply, care):
                await self._post(delivery, reply, caller)
        except Refused as refused:
            if refused.reason not in _OVER:
                raise
            _log.info("session not with the bot", session=message.session_id, reason=refused.reason_name)

    async def _was_taken_back(self, delivery: Delivery[Entry]) -> bool:
        """Return whether an entry that comes late was recalled in the meantime: its words are nobody's any more."""
        if delivery.attempts == 1 and datetime.now(UTC) - delivery.time < _AT_ONCE:
            return False
        since = await self._log.read(delivery.subject, after_seq=delivery.seq, limit=_READ)
        return any(parse(Entry, stored.data).message.content.recall.target_seq == delivery.seq for stored in since)

    async def _post(self, delivery: Delivery[Entry], reply: Reply, caller: Metadata) -> None:
        session_id = delivery.message.message.session_id
        last_seq = delivery.seq
        for _ in range(_ATTEMPTS):
            post = frame_pb2.PostMessage(
                session_id=session_id,
                client_message_id=f"bot-{delivery.seq:016d}",
                content=message_pb2.Content(answer=wire.to_answer(reply, answers_seq=delivery.seq)),
                expected_last_seq=last_seq,
            )
            try:
                await self._chat.post(post, caller)
            except Refused as refused:
                if refused.reason != errors_pb2.REASON_VERSION_CONFLICT:
                    raise
            else:
                return
            since = await self._log.read(delivery.subject, after_seq=delivery.seq, limit=_READ)
            if not still_wanted(reply, [parse(Entry, stored.data) for stored in since], answers_seq=delivery.seq):
                _log.info("answer dropped, the conversation has gone on", session=session_id)
                return
            last_seq = since[-1].seq if since else last_seq
        raise Refused(
            errors_pb2.REASON_UNAVAILABLE,
            "the session's log changes faster than the bot can answer",
        )

    async def _show_typing(self, session_id: int, caller: Metadata) -> None:
        try:
            await self._chat.typing(session_id, caller)
        except Refused as refused:
            if refused.reason in _OVER:
                raise
            # Only a sign; the answer is what matters.
            _log.debug("typing not shown", reason=refused.reason_name)


def still_wanted(reply: Reply, since: Sequence[Entry], *, answers_seq: int) -> bool:
    """Return whether a reply is still wanted after what came into the log since the question."""
    for entry in since:
        message = entry.message
        match message.content.WhichOneof("kind"):
            case "change":
                session = message.content.change.session
                if not may_say(reply, care_in(session.state, accepted=session.HasField("accepted_at"))):
                    return False
            case "answer":
                # It was posted already; only its acknowledgement was lost.
                if message.content.answer.answers_seq == answers_seq:
                    return False
            case "recall":
                # The question was taken back.
                if message.content.recall.target_seq == answers_seq:
                    return False
            case "text":
                if message.sender.kind == message_pb2.SENDER_KIND_AGENT:
                    return False
                intent = understand(message.content.text.text).intent
                # The newer question will be answered. "谢谢" replaces nothing.
                if intent is Intent.QUESTION:
                    return False
                # A person was requested: an answer is still useful until one accepts.
                if intent is Intent.PERSON and not may_say(reply, Care.MEANWHILE):
                    return False
    return True


def is_for_the_bot(entry: Entry) -> bool:
    """Return whether a customer wrote it before an agent had accepted the session."""
    return (
        care_in(entry.session_state) is not Care.OVER
        and entry.message.sender.kind == message_pb2.SENDER_KIND_CUSTOMER
        and entry.message.content.WhichOneof("kind") == "text"
    )


def care_in(state: session_pb2.SessionState.ValueType, *, accepted: bool = False) -> Care:
    """Return how far a session is in the bot's care; `accepted` when an agent has accepted it before."""
    if accepted:
        return Care.OVER
    return _CARE.get(state, Care.OVER)


_CARE: Final = {
    session_pb2.SESSION_STATE_BOT: Care.ALONE,
    session_pb2.SESSION_STATE_WAITING: Care.MEANWHILE,
    session_pb2.SESSION_STATE_ASSIGNED: Care.MEANWHILE,
}
