"""How entries are grouped, told apart and paged, and that an entry comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import Delivery, Poison
from services.archive import domain, entries
from services.archive.domain import Archived

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
KEPT = Archived("qingshan", 5, 10, 100, 7, 1, 7, NOW, b"")


def delivery(entry: chat_events_pb2.LogEntry, *, seq: int, subject: str) -> Delivery[chat_events_pb2.LogEntry]:
    return Delivery(entry, seq, subject, {}, 1, NOW)


def entry(content: message_pb2.Content) -> chat_events_pb2.LogEntry:
    message = message_pb2.Message(
        id=100,
        session_id=5,
        sender=message_pb2.Sender(user_id=7, kind=message_pb2.SENDER_KIND_CUSTOMER, display_name="小明"),
        client_message_id="client-100",
        content=content,
    )
    message.sent_at.FromDatetime(NOW)
    return chat_events_pb2.LogEntry(message=message, tenant_id="qingshan", customer_id=7)


@pytest.mark.parametrize(
    "content",
    [
        message_pb2.Content(text=message_pb2.Text(text="这件有大码吗?")),
        message_pb2.Content(
            fallback_text="有。",
            answer=message_pb2.BotAnswer(
                text="有。",
                sources=[message_pb2.Source(title="有大码吗？", score=0.5, faq_entry=message_pb2.FaqEntry(faq_id=3))],
                answers_seq=9,
            ),
        ),
        message_pb2.Content(
            fallback_text="会话已结束",
            change=message_pb2.SessionChange(session=session_pb2.Session(id=5, customer_name="小明")),
        ),
    ],
)
def test_an_entry_comes_back_as_it_was_with_its_position(content: message_pb2.Content) -> None:
    sent = entry(content)
    told = entries.message(entries.archived(delivery(sent, seq=10, subject="log.qingshan.5")))
    expected = message_pb2.Message()
    expected.CopyFrom(sent.message)
    expected.seq = 10
    assert told == expected


def test_the_sealed_part_holds_the_content_and_the_name_and_nothing_that_stands_in_columns() -> None:
    kept = entries.archived(
        delivery(entry(message_pb2.Content(text=message_pb2.Text(text="好"))), seq=10, subject="log.qingshan.5")
    )
    body = message_pb2.Message.FromString(kept.body)
    assert {field.name for field, _ in body.ListFields()} == {"sender", "content"}
    assert (body.sender.display_name, body.sender.user_id) == ("小明", 0)
    assert (kept.tenant_id, kept.session_id, kept.seq, kept.message_id) == ("qingshan", 5, 10, 100)
    assert (kept.customer_id, kept.sender_kind, kept.sender_id, kept.sent_at) == (7, 1, 7, NOW)
    assert kept.client_message_id == "client-100"


@pytest.mark.parametrize("subject", ["log.xinghe.5", "log.qingshan.6", "log.qingshan.5.more"])
def test_an_entry_of_another_subject_is_poison(subject: str) -> None:
    with pytest.raises(Poison):
        entries.archived(delivery(entry(message_pb2.Content(text=message_pb2.Text(text="x"))), seq=1, subject=subject))


def test_an_entry_without_a_message_is_poison() -> None:
    with pytest.raises(Poison):
        entries.archived(delivery(chat_events_pb2.LogEntry(tenant_id="qingshan"), seq=1, subject="log.qingshan.0"))


def test_messages_are_grouped_by_shop_in_order() -> None:
    messages = [replace(KEPT, tenant_id=shop, seq=seq) for seq, shop in enumerate("abaab")]
    groups = domain.by_tenant(messages)
    assert {shop: [message.seq for message in group] for shop, group in groups.items()} == {"a": [0, 2, 3], "b": [1, 4]}


def test_a_message_that_is_not_there_although_it_was_written_is_a_resend_or_has_collided() -> None:
    resent, other = replace(KEPT, message_id=101, client_message_id="client-1"), replace(KEPT, message_id=102)
    left_out = domain.left_out([KEPT, resent, other], {(5, 100)})
    assert left_out == [resent, other]
    assert domain.collided(left_out, {(5, 1, "client-1")}) == [other]
    assert domain.left_out([KEPT, other], {(5, 100), (5, 102)}) == []


@pytest.mark.parametrize(("before", "token", "first"), [(0, 0, None), (9, 0, 9), (0, 8, 8), (9, 8, 8), (7, 8, 7)])
def test_a_page_begins_below_what_was_asked_and_what_was_read(before: int, token: int, first: int | None) -> None:
    assert domain.first_before(before, token) == first
