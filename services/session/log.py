"""What is said in sessions, from the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Final

from octopus.chat.v1 import message_pb2
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.session.v1 import session_pb2

from mesh.bus import Bus, Poison, decode
from services.session.domain import Speaker, Word

_PAGE: Final = 500
_SPEAKERS: Final = {
    message_pb2.SENDER_KIND_CUSTOMER: Speaker.CUSTOMER,
    message_pb2.SENDER_KIND_AGENT: Speaker.AGENT,
    message_pb2.SENDER_KIND_BOT: Speaker.BOT,
}
# Kinds that say nothing to the other side: changes of earlier messages, and what stays among the staff.
_UNSAID: Final = frozenset({"change", "edit", "recall", "note"})


class Log:
    """Reads the log of one session."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def after(self, tenant_id: str, session_id: int, seq: int) -> list[Word]:
        """Return the messages of a session after a position, in order; recalled ones without words.

        Raises `Unavailable`.
        """
        words, recalled, subject = [], set(), f"log.{tenant_id}.{session_id}"
        while stored := await self._bus.read(subject, after_seq=seq, limit=_PAGE):
            seq = stored[-1].seq
            for each in stored:
                try:
                    entry = decode(each.data, each.headers, LogEntry)
                except Poison:
                    # Not of this platform; the archive parks such an entry.
                    continue
                if entry.message.content.HasField("recall"):
                    recalled.add(entry.message.content.recall.target_seq)
                if (word := word_of(entry, each.seq)) is not None:
                    words.append(word)
            if not stored[-1].following:
                break
        return [replace(word, text="") if word.seq in recalled else word for word in words]


def word_of(entry: LogEntry, seq: int) -> Word | None:
    """Return what an entry says, None for one that is no message of a participant to the other."""
    message = entry.message
    kind = message.content.WhichOneof("kind")
    speaker = _SPEAKERS.get(message.sender.kind)
    if speaker is None or kind in _UNSAID:
        return None
    sources = message.content.answer.sources
    return Word(
        seq=seq,
        at=message.sent_at.ToDatetime(tzinfo=UTC),
        speaker=speaker,
        sender_id=message.sender.user_id,
        text=message.content.text.text if speaker is Speaker.CUSTOMER else "",
        topic=sources[0].title if sources else "",
    )


def end_of(entry: LogEntry) -> session_pb2.Session | None:
    """Return the session that an entry says has ended, None for other entries."""
    message = entry.message
    if message.sender.kind != message_pb2.SENDER_KIND_SYSTEM:
        return None
    session = message.content.change.session
    return session if session.state == session_pb2.SESSION_STATE_ENDED else None
