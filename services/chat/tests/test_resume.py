"""What a device gets that was away."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.errors.v1 import errors_pb2

from mesh.testing import Platform
from mesh.testing.first_release import stored_by_the_first_release
from services.chat.tests.conftest import Chat, running, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT = 11, 22


async def test_a_device_resumes_where_it_was(platform: Platform) -> None:
    async with running(platform, instances=2, rate_burst=1000, resume_messages=400) as chats:
        await _resume(chats)


async def _resume(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER)
    for number in range(600):
        await customer.send(post=text(session.id, str(number)))
    await customer.answered(600)
    acked = [frame.ack for frame in customer.frames if frame.HasField("ack")]
    middle = acked[len(acked) // 2].seq

    agent = await chats.converse(AGENT, "AGENT", instance=1, cursors={session.id: middle})
    expected = [ack.seq for ack in acked if ack.seq > middle]
    shown = await agent.next("message", len(expected))

    assert [message.seq for message in shown] == expected
    assert shown[0].previous_seq == middle
    assert all(b.previous_seq == a.seq for a, b in itertools.pairwise(shown))


async def test_a_device_whose_place_has_left_the_log_is_told_to_page_the_history(platform: Platform) -> None:
    async with running(platform, instances=3) as chats:
        session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        session.opened_at.seconds -= 60
        customer = await chats.converse(CUSTOMER)
        for number in range(5):
            await customer.send(post=text(session.id, str(number)))
        acks = await customer.next("ack", 5)
        await platform.nats.forget("LOG", before=acks[3].seq)

        late = await chats.converse(AGENT, "AGENT", instance=1, cursors={session.id: acks[1].seq})
        (too_old,) = await late.next("too_old")
        assert (too_old.session_id, too_old.first_seq) == (session.id, acks[3].seq)
        assert [message.seq for message in await late.next("message", 2)] == [acks[3].seq, acks[4].seq]

        in_time = await chats.converse(AGENT, "AGENT", instance=1, cursors={session.id: acks[2].seq})
        assert [message.seq for message in await in_time.next("message", 2)] == [acks[3].seq, acks[4].seq]
        assert not [frame for frame in in_time.frames if frame.HasField("too_old")]

        # Nothing is left at all: what was missed cannot be shown, and is not passed over in silence.
        await platform.nats.forget("LOG", before=acks[4].seq + 1)
        very_late = await chats.converse(AGENT, "AGENT", instance=2, cursors={session.id: acks[2].seq})
        (too_old,) = await very_late.next("too_old")
        assert too_old.first_seq == acks[4].seq + 1
        await customer.send(post=text(session.id, "after all"))
        assert (await very_late.next("message"))[0].content.text.text == "after all"


async def test_a_device_is_shown_what_the_first_release_stored(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    session.opened_at.seconds -= 3600
    subject = f"log.{session.tenant_id}.{session.id}"
    texts = ["before the upgrade", "heard live"]
    old = []
    for number, words in enumerate(texts, 1):
        message = message_pb2.Message(id=number, session_id=session.id, client_message_id=f"old-{number}")
        message.sender.kind = message_pb2.SENDER_KIND_CUSTOMER
        message.content.text.text = words
        entry = chat_events_pb2.LogEntry(message=message, tenant_id=session.tenant_id, customer_id=CUSTOMER)
        headers = {"Octopus-Type": "octopus.chat.v1.LogEntry", "Nats-Msg-Id": f"{session.id}.{number}"}
        old.append((stored_by_the_first_release(entry), headers))

    await chat.bus.publish_raw(subject, *old[0])
    customer = await chat.converse(CUSTOMER, cursors={session.id: 0})
    assert (await customer.next("message"))[0].content.text.text == texts[0]
    # An instance of the first release still runs beside this one.
    await chat.bus.publish_raw(subject, *old[1])
    assert [each.content.text.text for each in await customer.next("message", 2)] == texts


async def test_a_device_that_has_seen_another_log_is_told_and_begins_anew(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chat.converse(CUSTOMER)
    await customer.send(post=text(session.id, "hello"))
    (ack,) = await customer.next("ack")

    agent = await chat.converse(AGENT, "AGENT", cursors={session.id: ack.seq + 1_000_000})
    (too_old,) = await agent.next("too_old")
    assert too_old.session_id == session.id
    await customer.send(post=text(session.id, "still there?"))
    assert [message.content.text.text for message in await agent.next("message", 2)] == ["hello", "still there?"]


async def test_an_ended_session_is_replayed_to_its_end_and_takes_nothing(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chats.converse(AGENT, "AGENT")
    await agent.send(post=text(session.id, "goodbye"))
    (ack,) = await agent.next("ack")
    await chats.sessions.change(session, "ENDED")

    customer = await chats.converse(CUSTOMER, cursors={session.id: ack.seq - 1})
    goodbye, end = await customer.next("message", 2)
    assert goodbye.content.text.text == "goodbye"
    assert end.content.change.session.state == session.state
    await customer.send(post=text(session.id, "wait"))
    (refusal,) = await customer.next("refusal")
    assert refusal.reason == errors_pb2.REASON_SESSION_ENDED


async def test_nothing_is_lost_or_shown_twice_when_nats_restarts(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER, instance=0)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    for number in range(40):
        await customer.send(post=text(session.id, str(number)))
        if number == 15:
            await chats.platform.nats.restart()
        await asyncio.sleep(0.02)
    await customer.answered(40)
    acked = [frame.ack.seq for frame in customer.frames if frame.HasField("ack")]
    shown = await agent.next("message", len(acked), timeout=20)
    assert [message.seq for message in shown] == sorted(set(acked))
    assert len(acked) >= 30


async def test_a_cursor_follows_nothing_for_who_only_may_see_a_session(chat: Chat) -> None:
    """The session service shows colleagues who waits, and supervisors all; only who takes part follows a session."""
    session = chat.sessions.open(CUSTOMER, state="WAITING")
    chat.sessions.onlookers.update({33, 44})
    customer = await chat.converse(CUSTOMER)
    for onlooker, role in ((33, "AGENT"), (44, "SUPERVISOR")):
        stream = await chat.converse(onlooker, role, cursors={session.id: 1})
        (refusal,) = await stream.next("refusal")
        assert (refusal.reason, refusal.session_id) == (errors_pb2.REASON_NOT_FOUND, session.id)
        await customer.send(post=text(session.id, "for my agent"))
        await stream.send(post=text(session.id, "may I?"))
        assert [one.reason for one in await stream.next("refusal", 2)] == [errors_pb2.REASON_NOT_FOUND] * 2
        assert not [frame for frame in stream.frames if frame.HasField("message")]
