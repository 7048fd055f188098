"""Takes a message: checks it, puts it into the log, and acknowledges it only then."""

from __future__ import annotations

import time
from typing import Protocol

from octopus.chat.v1 import chat_events_pb2, frame_pb2, message_pb2
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import Conflict, PubAck, StoredMessage, parse
from mesh.rpc.kinds import is_internal
from mesh.rpc.principal import Principal
from services.chat import metrics
from services.chat.content import check_may_post, has_words, with_fallback
from services.chat.domain import LogMoved, Speaker, check_may_note, check_may_speak
from services.chat.earlier import EarlierMessages
from services.chat.first_posts import FirstPosts
from services.chat.room import participation
from services.chat.screening.screen import Screen

_SENDER_KINDS = {
    Speaker.CUSTOMER: message_pb2.SENDER_KIND_CUSTOMER,
    Speaker.AGENT: message_pb2.SENDER_KIND_AGENT,
    Speaker.BOT: message_pb2.SENDER_KIND_BOT,
}

# Looking a counter up by its label costs as much as the rest of a check.
_POSTED = {speaker: metrics.POSTED.labels(speaker.name) for speaker in Speaker}
_DUPLICATES = {speaker: metrics.DUPLICATES.labels(speaker.name) for speaker in Speaker}


def speaker_of(principal: Principal) -> Speaker:
    """Return the sender kind of the caller."""
    if principal.is_service:
        return Speaker.BOT
    if principal.has(options_pb2.ROLE_AGENT, options_pb2.ROLE_SUPERVISOR):
        return Speaker.AGENT
    return Speaker.CUSTOMER


def sender_of(principal: Principal) -> message_pb2.Sender:
    """Return a caller as the others see them."""
    return message_pb2.Sender(
        user_id=principal.user_id,
        kind=_SENDER_KINDS[speaker_of(principal)],
        display_name=principal.display_name,
    )


def _acknowledged_again(first: message_pb2.Message, speaker: Speaker) -> frame_pb2.Ack:
    _DUPLICATES[speaker].inc()
    return frame_pb2.Ack(
        client_message_id=first.client_message_id,
        session_id=first.session_id,
        message_id=first.id,
        seq=first.seq,
        sent_at=first.sent_at,
        duplicate=True,
    )


class Log(Protocol):
    """The durable log."""

    async def publish(
        self,
        subject: str,
        message: chat_events_pb2.LogEntry,
        *,
        message_id: str,
        timeout: float,
        expected_last_subject_sequence: int | None,
    ) -> PubAck:
        """Store an entry once for each message id."""

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return entries after a position."""


class Ids(Protocol):
    """Where ids come from."""

    def next(self) -> int:
        """Return a new id."""


class OwnPosts(Protocol):
    """Ids of messages whose echo a stream leaves out."""

    def add(self, message_id: int) -> None:
        """Note a message before it is stored."""

    def discard(self, message_id: int) -> bool:
        """Forget a message."""


class Posting:
    """Puts messages into the log."""

    def __init__(
        self,
        log: Log,
        ids: Ids,
        first_posts: FirstPosts,
        earlier: EarlierMessages,
        screen: Screen,
        *,
        timeout: float,
    ) -> None:
        self._log = log
        self._ids = ids
        self._first_posts = first_posts
        self._earlier = earlier
        self._screen = screen
        self._timeout = timeout

    async def post(
        self,
        principal: Principal,
        session: session_pb2.Session,
        post: frame_pb2.PostMessage,
        own_posts: OwnPosts | None = None,
    ) -> frame_pb2.Ack:
        """Store a message, unless it is stored already, and return its acknowledgement.

        `own_posts` gets the new message's id before anybody can see the message, so that the sending stream can leave
        out the echo. An id that gets no acknowledgement is taken out again: if the message was stored all the same, it
        is shown.

        Raises:
            ChatError: a rule of the conversation forbids it.
            Refused: the log did not take it in time; it may or may not be there, so the sender sends it again.

        """
        speaker = speaker_of(principal)
        if is_internal(post.content):
            check_may_note(participation(session), speaker)
        else:
            check_may_speak(participation(session), speaker, principal.user_id)
        check_may_post(principal, post.content)
        opened_at = session.opened_at.seconds
        if self._first_posts.may_have_left_the_window(opened_at):
            first = await self._first_posts.find(
                session.tenant_id, session.id, _SENDER_KINDS[speaker], post.client_message_id, opened_at=opened_at
            )
            if first is not None:
                return _acknowledged_again(first, speaker)
        await self._earlier.check(session, post, speaker, principal.user_id)

        # Filled in place: to build the parts and put them together takes twice as long.
        entry = chat_events_pb2.LogEntry(
            tenant_id=session.tenant_id, customer_id=session.customer_id, session_state=session.state
        )
        message = entry.message
        message.id = self._ids.next()
        message.session_id = session.id
        message.client_message_id = post.client_message_id
        message.sent_at.seconds, message.sent_at.nanos = divmod(time.time_ns(), 1_000_000_000)
        message.sender.CopyFrom(sender_of(principal))
        content = await self._screen.checked(session, speaker, message, post.content)
        message.content.CopyFrom(with_fallback(content, session.locale))
        if has_words(content):
            message.quoted_seq = post.quoted_seq
        subject = f"log.{session.tenant_id}.{session.id}"
        if own_posts is not None:
            own_posts.add(message.id)
        try:
            ack = await self._log.publish(
                subject,
                entry,
                # Whoever of the author's side sends it: a visitor may have become a customer.
                message_id=f"{session.id}.{speaker.name}.{post.client_message_id}",
                timeout=self._timeout,
                expected_last_subject_sequence=(post.expected_last_seq if post.HasField("expected_last_seq") else None),
            )
        except BaseException as error:
            if own_posts is not None:
                own_posts.discard(message.id)
            if isinstance(error, Conflict):
                raise LogMoved("the session has newer entries; read them and decide again") from error
            raise
        duplicate = False
        if ack.duplicate:
            first = await self._first_one(subject, ack.seq, message)
            # The log also says "duplicate" when it took this very message but its answer was lost on the way.
            duplicate = first.id != message.id
            if duplicate and own_posts is not None:
                own_posts.discard(message.id)
            message = first
        (_DUPLICATES if duplicate else _POSTED)[speaker].inc()
        return frame_pb2.Ack(
            client_message_id=post.client_message_id,
            session_id=session.id,
            message_id=message.id,
            seq=ack.seq,
            sent_at=message.sent_at,
            duplicate=duplicate,
        )

    async def acknowledge_again(
        self, principal: Principal, session: session_pb2.Session | None, post: frame_pb2.PostMessage
    ) -> frame_pb2.Ack | None:
        """Return the acknowledgement of a message that is stored already, None when it is not.

        For an author who may not post it any more: the session has ended, it was handed over, it is not theirs
        (`session` is None), or the earlier message that it names cannot be changed now. They must have written the
        message themselves, or take part on its side.
        """
        speaker = speaker_of(principal)
        first = await self._first_posts.find(
            principal.tenant_id,
            post.session_id,
            _SENDER_KINDS[speaker],
            post.client_message_id,
            opened_at=None if session is None else session.opened_at.seconds,
            to_the_end=True,
        )
        if first is None:
            return None
        takes_part = session is not None and participation(session).includes(principal.user_id)
        if first.sender.user_id != principal.user_id and not takes_part:
            return None
        return _acknowledged_again(first, speaker)

    async def _first_one(self, subject: str, seq: int, resent: message_pb2.Message) -> message_pb2.Message:
        """Return the message as it was stored the first time."""
        for stored in await self._log.read(subject, after_seq=seq - 1, limit=1):
            if stored.seq == seq:
                return parse(chat_events_pb2.LogEntry, stored.data).message
        return resent
