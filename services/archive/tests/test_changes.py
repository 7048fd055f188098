"""How messages read that were edited or recalled later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.bus import Delivery
from services.archive import domain, entries
from services.archive.domain import Archived

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 8, 0, 0, tzinfo=UTC)
TARGET = 10
RECALLED = message_pb2.Content(fallback_text="撤回了一条消息", recall=message_pb2.Recall(target_seq=TARGET))


def kept(seq: int, content: message_pb2.Content) -> Archived:
    message = message_pb2.Message(id=1000 + seq, session_id=5, quoted_seq=3, content=content)
    message.sent_at.FromDatetime(NOW + timedelta(seconds=seq))
    entry = chat_events_pb2.LogEntry(message=message, tenant_id="qingshan", customer_id=7)
    return entries.archived(Delivery(entry, seq, "log.qingshan.5", {}, 1, NOW))


def said(words: str) -> message_pb2.Content:
    return message_pb2.Content(text=message_pb2.Text(text=words))


def edited(words: str) -> message_pb2.Content:
    edit = message_pb2.Edit(target_seq=TARGET, text=message_pb2.Text(text=words))
    return message_pb2.Content(fallback_text=f"更正：{words}", edit=edit)


def test_an_edited_message_has_its_last_text_and_when_it_got_it() -> None:
    edits = [kept(11, edited("second")), kept(12, edited("third"))]
    (message,) = entries.told([kept(TARGET, said("first"))], edits)
    assert (message.content, message.seq, message.quoted_seq) == (said("third"), TARGET, 3)
    assert message.edited_at.ToDatetime(tzinfo=UTC) == NOW + timedelta(seconds=12)
    assert not message.HasField("recalled_at")


def test_a_recalled_message_says_so_and_nothing_else() -> None:
    (message,) = entries.told([kept(TARGET, said("secret"))], [kept(12, RECALLED)])
    assert message.content == message_pb2.Content(fallback_text="撤回了一条消息")
    assert message.recalled_at.ToDatetime(tzinfo=UTC) == NOW + timedelta(seconds=12)


@pytest.mark.parametrize(("count", "place"), [(count, place) for count in range(4) for place in range(count + 1)])
def test_no_words_are_left_of_what_was_recalled_before_or_after_its_edits(count: int, place: int) -> None:
    contents = [edited(f"secret {each}") for each in range(count)]
    contents.insert(place, RECALLED)
    changes = [kept(TARGET + 1 + number, content) for number, content in enumerate(contents)]
    told = entries.told([kept(TARGET, said("secret")), *changes], changes)
    assert not [message for message in told if b"secret" in message.SerializeToString()]
    assert [message.content.recall.target_seq for message in told if message.content.HasField("recall")] == [TARGET]
    (only,) = entries.versions(kept(TARGET, said("secret")), changes)
    assert b"secret" not in only.SerializeToString()


@pytest.mark.parametrize("words", [["a"], ["a", "b"], ["b", "a", "b"]])
def test_of_several_edits_the_last_alone_has_words(words: list[str]) -> None:
    changes = [kept(TARGET + 1 + number, edited(each)) for number, each in enumerate(words)]
    told = entries.told(changes, changes)
    assert [message.content.edit.HasField("text") for message in told] == [False] * (len(words) - 1) + [True]
    assert not any(message.content.fallback_text for message in told[:-1])
    assert told[-1].content.edit.text.text == words[-1]


@pytest.mark.parametrize("words", [[], ["a"], ["b", "a", "b"]])
def test_all_versions_are_told_in_order(words: list[str]) -> None:
    changes = [kept(TARGET + 1 + number, edited(each)) for number, each in enumerate(words)]
    found = entries.versions(kept(TARGET, said("first")), changes)
    assert [version.content.text.text for version in found] == ["first", *words]
    assert {version.seq for version in found} == {TARGET}


def test_changes_are_known_by_what_they_change_and_notes_as_internal() -> None:
    note = kept(13, message_pb2.Content(note=message_pb2.Note(text="difficult")))
    rows = [kept(TARGET, said("first")), kept(11, edited("second")), kept(12, RECALLED), note]
    assert [(row.changes_seq, row.internal) for row in rows] == [
        (None, False),
        (TARGET, False),
        (TARGET, False),
        (None, True),
    ]
    assert domain.changeable(rows) == {TARGET, 13}
