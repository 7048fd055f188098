"""What was recalled is acted on by nobody, also when the bot comes to it late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import Delivery, StoredMessage
from services.bot.domain import Reply
from services.bot.events import Participant

pytestmark = pytest.mark.unit

SUBJECT = "log.qingshan.5"


def entry(**content: object) -> chat_events_pb2.LogEntry:
    message = message_pb2.Message(id=1, session_id=5, content=message_pb2.Content(**content))  # type: ignore[arg-type]
    message.sender.kind = message_pb2.SENDER_KIND_CUSTOMER
    return chat_events_pb2.LogEntry(message=message, tenant_id="qingshan", session_state=session_pb2.SESSION_STATE_BOT)


QUESTION = entry(text=message_pb2.Text(text="转人工"))
RECALL = entry(recall=message_pb2.Recall(target_seq=10))
OTHER_RECALL = entry(recall=message_pb2.Recall(target_seq=9))


@pytest.mark.parametrize(
    ("attempts", "age_s", "since", "handed_over"),
    [
        # Again, after a service was away; or late, after the bot was.
        (2, 0, [RECALL], False),
        (1, 60, [RECALL], False),
        (1, 60, [QUESTION, RECALL], False),
        (1, 60, [OTHER_RECALL], True),
        (2, 60, [], True),
    ],
)
async def test_a_recalled_message_is_not_acted_on_when_it_comes_late(
    attempts: int, age_s: float, since: list[chat_events_pb2.LogEntry], *, handed_over: bool
) -> None:
    answering, chat, sessions, log = AsyncMock(), AsyncMock(), AsyncMock(), AsyncMock()
    answering.reply.return_value = Reply(hands_over=True)
    log.read.return_value = [
        StoredMessage(11 + number, SUBJECT, each.SerializeToString(), {}, datetime.now(UTC))
        for number, each in enumerate(since)
    ]
    participant = Participant(answering=answering, chat=chat, sessions=sessions, log=log)
    stored_at = datetime.now(UTC) - timedelta(seconds=age_s)
    await participant.take(Delivery(QUESTION, 10, SUBJECT, {}, attempts, stored_at))
    assert sessions.request_handoff.await_count == handed_over
    # Its words went nowhere.
    assert answering.reply.await_count == handed_over
