"""Finds the earlier message that a post names, and checks that the post may name it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from octopus.chat.v1 import chat_events_pb2, frame_pb2, message_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import StoredMessage, parse
from mesh.rpc.kinds import is_internal
from services.chat.content import has_words
from services.chat.domain import Earlier, Speaker, check_may_edit, check_may_quote, check_may_recall

# Entries in one read.
_PAGE: Final = 256

_SPEAKERS: Final = {
    message_pb2.SENDER_KIND_CUSTOMER: Speaker.CUSTOMER,
    message_pb2.SENDER_KIND_AGENT: Speaker.AGENT,
    message_pb2.SENDER_KIND_BOT: Speaker.BOT,
}


class Log(Protocol):
    """Where a session's entries can be read again."""

    async def read(self, subject: str, *, after_seq: int, limit: int) -> list[StoredMessage]:
        """Return entries after a position, in order."""


class History(Protocol):
    """What the archive has."""

    async def at(self, tenant_id: str, session_id: int, seq: int) -> message_pb2.Message | None:
        """Return the message at a position of a session, None without one. Raise `Refused`."""


class EarlierMessages:
    """Checks posts that name an earlier message: edits, recalls and quotes."""

    def __init__(self, log: Log, history: History, *, now: Callable[[], float] = time.time) -> None:
        self._log = log
        self._history = history
        self._now = now

    async def check(
        self, session: session_pb2.Session, post: frame_pb2.PostMessage, speaker: Speaker, user_id: int
    ) -> None:
        """Check the message that a post names, if it names one.

        Raises:
            ChatError: the post may not name it.
            BusError: the log cannot be read now.
            Refused: the archive cannot be asked now.

        """
        content = post.content
        match content.WhichOneof("kind"):
            case "recall":
                earlier = await self._find(session, content.recall.target_seq)
                check_may_recall(earlier, speaker, user_id, self._now())
            case "edit":
                earlier = await self._find(session, content.edit.target_seq, whether_recalled=True)
                check_may_edit(earlier, speaker, user_id)
            case "text" | "note" if post.quoted_seq:
                earlier = await self._find(session, post.quoted_seq)
                check_may_quote(earlier, internally=is_internal(content))

    async def _find(self, session: session_pb2.Session, seq: int, *, whether_recalled: bool = False) -> Earlier | None:
        subject = f"log.{session.tenant_id}.{session.id}"
        message = await self._in_log(subject, seq)
        recalled = False
        if message is None:
            message = await self._history.at(session.tenant_id, session.id, seq)
        if message is None:
            return None
        if message.HasField("recalled_at"):
            recalled = True
        elif whether_recalled:
            recalled = await self._recalled_since(subject, seq)
        return Earlier(
            side=_SPEAKERS.get(message.sender.kind),
            author_id=message.sender.user_id,
            sent_at=message.sent_at.ToNanoseconds() / 1e9,
            is_text=message.content.HasField("text"),
            has_words=has_words(message.content),
            internal=is_internal(message.content),
            recalled=recalled,
        )

    async def _in_log(self, subject: str, seq: int) -> message_pb2.Message | None:
        for stored in await self._log.read(subject, after_seq=seq - 1, limit=1):
            if stored.seq == seq:
                return parse(chat_events_pb2.LogEntry, stored.data).message
        return None

    async def _recalled_since(self, subject: str, seq: int) -> bool:
        after = seq
        while page := await self._log.read(subject, after_seq=after, limit=_PAGE):
            for stored in page:
                try:
                    content = parse(chat_events_pb2.LogEntry, stored.data).message.content
                except DecodeError:
                    continue
                if content.recall.target_seq == seq:
                    return True
            if not page[-1].following:
                break
            after = page[-1].seq
        return False
