"""Internal notes: staff write and read them, and nothing of them goes to a customer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.errors import Refused
from mesh.rpc.metadata import with_token
from mesh.testing import Platform
from services.chat.tests.conftest import Chat, Stream, running, text
from services.chat.tests.test_changes import quote, recall, refused, stored

pytestmark = pytest.mark.service

CUSTOMER, AGENT, SUPERVISOR = 91, 102, 103


def note(session: session_pb2.Session, words: str) -> frame_pb2.PostMessage:
    post = text(session.id, "-")
    post.content.note.text = words
    return post


def messages(frames: Sequence[frame_pb2.ServerFrame]) -> list[tuple[str, int, int]]:
    """Return words, position and the position before, of the messages among frames."""
    return [
        (frame.message.content.text.text, frame.message.seq, frame.message.previous_seq)
        for frame in frames
        if frame.HasField("message")
    ]


def assert_no_gap(stream: Stream, expected: Sequence[tuple[str, int]], *, after: int) -> None:
    """Assert that a stream was shown these texts and nothing else, each after the one before it."""
    positions = [after, *(seq for _, seq in expected)]
    assert messages(stream.frames) == [
        (words, seq, before) for (words, seq), before in zip(expected, positions, strict=False)
    ]


async def test_a_note_reaches_staff_and_on_no_way_the_customer(chats: Chat) -> None:
    """Live on both kinds of streams and on two instances, replayed from the tail, and resumed."""
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    secret = f"secret {uuid.uuid4().hex}"
    live = await chats.converse(CUSTOMER)
    elsewhere = await chats.converse(CUSTOMER, instance=1)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    stub = await chats.stub()
    call = stub.Subscribe(
        chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello()), metadata=with_token(chats.token(CUSTOMER))
    )
    subscribed: list[frame_pb2.ServerFrame] = []

    async def read_subscription() -> None:
        async for response in call:
            subscribed.extend(response.frames)

    reading = asyncio.create_task(read_subscription())
    chats.stack.callback(reading.cancel)

    first = await stored(agent, text(session.id, "before"))
    notes = [await stored(agent, note(session, f"{secret} {number}")) for number in range(3)]
    last = await stored(agent, text(session.id, "after"))
    expected = [("before", first), ("after", last)]

    colleague_device = await chats.converse(AGENT, "AGENT", cursors={session.id: first})
    shown = await colleague_device.next("message", 4)
    assert [message.seq for message in shown] == [*notes, last]
    assert shown[0].content.note.text == f"{secret} 0"
    assert shown[0].content.fallback_text == f"内部备注：{secret} 0"
    assert [message.previous_seq for message in shown] == [first, *notes]

    replayed = await chats.converse(CUSTOMER)
    resumed = await chats.converse(CUSTOMER, instance=1, cursors={session.id: first})
    at_a_note = await chats.converse(CUSTOMER, cursors={session.id: notes[1]})
    streams = [live, elsewhere, replayed]
    for stream in streams:
        await stream.next("message", 2)
        assert_no_gap(stream, expected, after=0)
    await resumed.next("message")
    assert_no_gap(resumed, expected[1:], after=first)
    await at_a_note.next("message")
    assert_no_gap(at_a_note, expected[1:], after=notes[1])
    async with asyncio.timeout(30):
        while len(messages(subscribed)) < 2:
            await asyncio.sleep(0.01)
    assert [words for words, _, _ in messages(subscribed)] == ["before", "after"]

    # What comes live after a replay that ended with a note.
    hidden = await stored(agent, note(session, secret))
    end = await stored(agent, text(session.id, "end"))
    for stream in (*streams, resumed, at_a_note):
        async with asyncio.timeout(30):
            while (newest := messages(stream.frames)[-1])[0] != "end":
                await asyncio.sleep(0.01)
        assert newest == ("end", end, last)
    assert hidden < end
    for stream in (*streams, resumed, at_a_note):
        assert not [frame for frame in stream.frames if secret.encode() in frame.SerializeToString()]
    assert not [frame for frame in subscribed if secret.encode() in frame.SerializeToString()]


async def test_a_slow_customer_who_is_read_from_the_log_itself_sees_neither_note_nor_gap(platform: Platform) -> None:
    async with running(platform, rate_burst=1000, resume_messages=8, replay_page=4) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        agent = await chat.converse(AGENT, "AGENT")
        expected = []
        begin = await stored(agent, text(session.id, "begin"))
        for number in range(6):
            await stored(agent, note(session, f"secret {number}"))
            expected.append((f"{number}", await stored(agent, text(session.id, f"{number}"))))
        customer = await chat.converse(CUSTOMER, cursors={session.id: begin})
        shown = await customer.next("message", 4)
        assert not [frame for frame in customer.frames if b"secret" in frame.SerializeToString()]
        newest = [message.seq for message in shown]
        assert newest == [seq for _, seq in expected][-len(newest) :]
        assert all(later.previous_seq == seq for seq, later in zip(newest, shown[1:], strict=False))


async def test_customers_and_the_bot_cannot_write_notes(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    for role in ("CUSTOMER", "VISITOR"):
        customer = await chat.converse(CUSTOMER, role)
        assert await refused(customer, note(session, "-")) == errors_pb2.REASON_ROLE_NOT_ALLOWED
    stub = await chat.stub(caller="bot")
    with pytest.raises(Refused) as told:
        await stub.Send(chat_service_pb2.SendRequest(post=note(session, "-")), metadata=chat.as_bot())
    assert told.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_a_customer_cannot_find_out_about_a_note_by_naming_it(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer, agent = await chat.converse(CUSTOMER), await chat.converse(AGENT, "AGENT")
    written = await stored(agent, note(session, "difficult"))
    unknown = written + 1_000_000
    refusals: list[frame_pb2.Refusal] = []
    for post in (
        recall(session, written),
        recall(session, unknown),
        quote(session, written, "?"),
        quote(session, unknown, "?"),
    ):
        await customer.send(post=post)
        refusals.append((await customer.next("refusal", len(refusals) + 1))[-1])
    assert {refusal.reason for refusal in refusals} == {errors_pb2.REASON_NOT_FOUND}
    assert [refusal.description for refusal in refusals[::2]] == [refusal.description for refusal in refusals[1::2]]


async def test_a_note_is_quoted_by_notes_only(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chat.converse(AGENT, "AGENT")
    written = await stored(agent, note(session, "difficult"))
    assert await refused(agent, quote(session, written, "as I said")) == errors_pb2.REASON_NOT_FOUND
    again = note(session, "indeed")
    again.quoted_seq = written
    assert await stored(agent, again)


async def test_who_sees_an_open_session_writes_notes_without_taking_part(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, state="WAITING")
    supervisor = await chat.converse(SUPERVISOR, "SUPERVISOR")
    assert await refused(supervisor, note(session, "who is it?")) == errors_pb2.REASON_NOT_FOUND
    chat.sessions.onlookers.add(SUPERVISOR)
    assert await stored(supervisor, note(session, "a good customer"))
    assert await refused(supervisor, text(session.id, "hello")) == errors_pb2.REASON_NOT_FOUND

    await chat.sessions.change(session, "ACTIVE", agent_id=AGENT)
    agent = await chat.converse(AGENT, "AGENT", cursors={session.id: 0})
    assert (await agent.next("message", 2))[0].content.note.text == "a good customer"
    await chat.sessions.change(session, "ENDED")
    assert await refused(supervisor, note(session, "too late")) == errors_pb2.REASON_SESSION_ENDED
