"""Check what customers and the shop's people write, and record what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import structlog
from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.moderation.v1 import words_pb2
from octopus.moderation.v1.moderation_events_pb2 import WordListChanged
from octopus.session.v1 import session_pb2

from mesh.bus import Bus, Poison, PubAck
from mesh.bus.payload import decode
from services.chat import metrics
from services.chat.domain import SensitiveText, Speaker
from services.chat.screening.lists import WordLists
from services.chat.screening.rules import Action, Verdict

_log = structlog.get_logger(__name__)

_FOUND = {action: metrics.WORDS_FOUND.labels(action.name) for action in Action}


class Log(Protocol):
    """Where events are stored."""

    async def publish(
        self, subject: str, message: chat_events_pb2.WordsFound, *, message_id: str, timeout: float
    ) -> PubAck:
        """Store an event once for each message id."""


class Ids(Protocol):
    """Where ids come from."""

    def next(self) -> int:
        """Return a new id."""


class Screen:
    """Stands before the log. `timeout` is how long the record of a find may take, in seconds."""

    def __init__(self, lists: WordLists, log: Log, ids: Ids, *, timeout: float) -> None:
        self._lists = lists
        self._log = log
        self._ids = ids
        self._timeout = timeout

    async def checked(
        self,
        session: session_pb2.Session,
        speaker: Speaker,
        message: message_pb2.Message,
        content: message_pb2.Content,
    ) -> message_pb2.Content:
        """Return the content of a message as it may be stored, with words masked where the shop wants that.

        What is found is recorded before this returns or raises. Notes are not checked: no customer gets them.

        Raises:
            SensitiveText: the text may not be stored.
            BusError: the find could not be recorded; the sender sends the message again.

        """
        written = _text_of(content)
        if speaker is Speaker.BOT or written is None:
            return content
        rules = await self._lists.of(session.tenant_id)
        if rules is None:
            metrics.UNCHECKED.inc()
            return content
        verdict = rules.judge(written.text)
        if not verdict.found:
            return content
        await self._record(session, speaker, message, verdict)
        if verdict.is_blocked:
            raise SensitiveText("the text has a word that the shop does not allow; send it without the word")
        kept = message_pb2.Content()
        kept.CopyFrom(content)
        if (text := _text_of(kept)) is not None:
            text.text = verdict.text
        return kept

    async def _record(
        self, session: session_pb2.Session, speaker: Speaker, message: message_pb2.Message, verdict: Verdict
    ) -> None:
        event = chat_events_pb2.WordsFound(
            event_id=self._ids.next(),
            occurred_at=message.sent_at,
            tenant_id=session.tenant_id,
            session_id=session.id,
            customer_id=session.customer_id,
            user_id=message.sender.user_id,
            client_message_id=message.client_message_id,
        )
        for found in verdict.found:
            _FOUND[found.action].inc()
            action = words_pb2.WordAction.ValueType(int(found.action))
            event.words.add(word=found.word, category=found.category, action=action)
        await self._log.publish(
            f"event.chat.{session.tenant_id}.{session.id}",
            event,
            message_id=f"words.{session.id}.{speaker.name}.{message.client_message_id}",
            timeout=self._timeout,
        )


def _text_of(content: message_pb2.Content) -> message_pb2.Text | None:
    """Return the text that the others would read, None for a kind without one."""
    match content.WhichOneof("kind"):
        case "text":
            return content.text
        case "edit":
            return content.edit.text
        case _:
            return None


async def hear_changes(bus: Bus, lists: WordLists) -> None:
    """Read a shop's list again when the moderation service says that it has changed."""

    def on_event(payload: bytes, headers: Mapping[str, str], subject: str) -> None:
        try:
            lists.changed(decode(payload, headers, WordListChanged).tenant_id)
        except Poison:
            _log.warning("event of another kind left out", subject=subject)

    await bus.subscribe("event.moderation.*.*", on_event, on_gap=lists.all_changed)
