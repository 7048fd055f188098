"""What the first release stored can still be read. The bytes were written by it, from the texts that stand here."""

from __future__ import annotations

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import decode, parse
from mesh.bus.earlier import with_content
from mesh.testing.first_release import stored_by_the_first_release

pytestmark = pytest.mark.unit


def stored(hexadecimal: str) -> message_pb2.Message:
    return with_content(message_pb2.Message.FromString(bytes.fromhex(hexadecimal)))


def test_an_entry_of_the_log_is_read_with_its_content_by_everybody() -> None:
    rest = chat_events_pb2.LogEntry(tenant_id="qingshan", customer_id=7)
    message = bytes.fromhex(ANSWER)
    stored = rest.SerializeToString() + bytes([1 << 3 | 2, len(message)]) + message
    headers = {"Octopus-Type": "octopus.chat.v1.LogEntry"}
    for entry in (parse(chat_events_pb2.LogEntry, stored), decode(stored, headers, chat_events_pb2.LogEntry)):
        assert entry.message.content.answer.text == "24 小时内发出。"
        assert entry.tenant_id == "qingshan"


def test_what_tests_write_is_what_the_first_release_wrote() -> None:
    for recorded in (ANSWER, CHANGE):
        message = bytes.fromhex(recorded)
        entry = parse(chat_events_pb2.LogEntry, bytes([1 << 3 | 2, len(message)]) + message)
        again = parse(chat_events_pb2.LogEntry, stored_by_the_first_release(entry))
        assert again == entry


def test_a_text_is_still_a_text() -> None:
    read = stored(TEXT)
    assert read.client_message_id == "client-1"
    assert read.content == message_pb2.Content(text=message_pb2.Text(text="你们多久发货？" * 30))


def test_an_answer_keeps_its_source() -> None:
    (source,) = stored(ANSWER).content.answer.sources
    assert (source.title, source.faq_entry.faq_id, source.score) == ("多久发货？", 12345678901, 0.5)
    assert stored(ANSWER).content.answer.answers_seq == 9
    assert stored(ANSWER).content.fallback_text == "24 小时内发出。"


def test_a_change_keeps_its_session() -> None:
    change = stored(CHANGE).content.change
    assert (change.session.id, change.previous_state) == (5, session_pb2.SESSION_STATE_BOT)


def test_what_is_written_today_is_left_alone() -> None:
    today = message_pb2.Message(content=message_pb2.Content.FromString(b"\xa2\x06\x02\x08\x01"))
    today.content.fallback_text = "a later kind"
    before = today.SerializeToString()
    assert with_content(today).SerializeToString() == before


TEXT = (
    "3208636c69656e742d3142f9040af604e4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e5"
    "8f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9f"
    "e4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a4"
    "9ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8"
    "b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0"
    "e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b9"
    "85e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7ef"
    "bc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbac"
    "e5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f"
    "91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4"
    "bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49a"
    "e4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4"
    "a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9fe4bda0e4bbace5a49ae4b985e58f91e8b4a7efbc9f"
)
ANSWER = (
    "4a370a15323420e5b08fe697b6e58685e58f91e587bae38082121c08b5b8f0fe2d120fe5a49ae4b985e58f91e8b4a7efbc9f1d0000003f2009"
)
CHANGE = "52080a04080528021001"
