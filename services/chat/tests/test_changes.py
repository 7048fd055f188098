"""Messages that change or quote an earlier one."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from octopus.chat.v1 import chat_events_pb2, chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.errors import Refused
from mesh.rpc.metadata import with_token
from services.chat.domain import RECALL_WITHIN_S
from services.chat.tests.conftest import TENANT, Chat, Stream, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT, OTHER = 71, 82, 83
_numbers = itertools.count()


def recall(session: session_pb2.Session, seq: int, client_message_id: str = "") -> frame_pb2.PostMessage:
    post = text(session.id, "-", client_message_id)
    post.content.recall.target_seq = seq
    return post


def edit(session: session_pb2.Session, seq: int, words: str) -> frame_pb2.PostMessage:
    post = text(session.id, "-")
    post.content.edit.target_seq = seq
    post.content.edit.text.text = words
    return post


def quote(session: session_pb2.Session, seq: int, words: str) -> frame_pb2.PostMessage:
    post = text(session.id, words)
    post.quoted_seq = seq
    return post


async def answer(stream: Stream, post: frame_pb2.PostMessage) -> frame_pb2.ServerFrame:
    """Send a post and return its acknowledgement or refusal."""
    await stream.send(post=post)
    async with asyncio.timeout(30):
        while True:
            for frame in stream.frames:
                if post.client_message_id in (frame.ack.client_message_id, frame.refusal.client_message_id):
                    stream.frames.remove(frame)
                    return frame
            await asyncio.sleep(0.005)


async def stored(stream: Stream, post: frame_pb2.PostMessage) -> int:
    """Send a post and return its position."""
    frame = await answer(stream, post)
    assert frame.HasField("ack"), frame.refusal
    return frame.ack.seq


async def refused(stream: Stream, post: frame_pb2.PostMessage) -> int:
    frame = await answer(stream, post)
    assert frame.HasField("refusal"), frame.ack
    assert frame.refusal.description
    return frame.refusal.reason


async def said_before(
    chat: Chat, session: session_pb2.Session, content: message_pb2.Content, *, age: float, client_message_id: str = ""
) -> int:
    """Store what a customer said some seconds ago, and return its position."""
    number = next(_numbers)
    message = message_pb2.Message(
        id=time.time_ns() + number,
        session_id=session.id,
        client_message_id=client_message_id or f"before-{number}",
        sender=message_pb2.Sender(user_id=session.customer_id, kind=message_pb2.SENDER_KIND_CUSTOMER),
        content=content,
    )
    message.sent_at.FromNanoseconds(time.time_ns() - int(age * 1e9))
    entry = chat_events_pb2.LogEntry(message=message, tenant_id=TENANT, customer_id=session.customer_id)
    # As `Posting` identifies it.
    message_id = f"{session.id}.CUSTOMER.{message.client_message_id}"
    return (await chat.bus.publish(f"log.{TENANT}.{session.id}", entry, message_id=message_id)).seq


async def test_a_recall_reaches_the_others_and_who_comes_later_is_not_sent_the_words(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    first = await stored(customer, text(session.id, "my password is 1234"))
    second = await stored(customer, recall(session, first))

    said, taken_back = await agent.next("message", 2)
    assert (said.seq, said.content.text.text) == (first, "my password is 1234")
    assert (taken_back.seq, taken_back.content.recall.target_seq) == (second, first)
    assert taken_back.content.fallback_text == "撤回了一条消息"

    late = await chats.converse(AGENT, "AGENT", instance=1, cursors={session.id: first - 1})
    said, taken_back = await late.next("message", 2)
    assert (said.seq, taken_back.content.recall.target_seq) == (first, first)
    assert said.HasField("recalled_at")
    assert said.content == message_pb2.Content(fallback_text="撤回了一条消息")


async def test_a_message_is_recalled_within_two_minutes_of_the_platforms_clock(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chat.converse(CUSTOMER)
    words = message_pb2.Content(text=message_pb2.Text(text="never mind"))
    in_time = await said_before(chat, session, words, age=RECALL_WITHIN_S - 60)
    late = await said_before(chat, session, words, age=RECALL_WITHIN_S + 1)
    assert await refused(customer, recall(session, late)) == errors_pb2.REASON_TOO_LATE
    assert await stored(customer, recall(session, in_time))


async def test_a_recall_that_was_stored_in_time_is_acknowledged_again_afterwards(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    words = message_pb2.Content(text=message_pb2.Text(text="never mind"))
    target = await said_before(chat, session, words, age=RECALL_WITHIN_S + 60)
    content = message_pb2.Content(recall=message_pb2.Recall(target_seq=target))
    first = await said_before(chat, session, content, age=30, client_message_id="recall-in-time")

    customer = await chat.converse(CUSTOMER)
    again = await answer(customer, recall(session, target, "recall-in-time"))
    assert (again.ack.seq, again.ack.duplicate) == (first, True)
    assert await refused(customer, recall(session, target)) == errors_pb2.REASON_TOO_LATE


async def test_nobody_changes_what_somebody_else_wrote_or_what_is_no_text(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    elsewhere = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer, agent = await chat.converse(CUSTOMER), await chat.converse(AGENT, "AGENT")
    asked = await stored(customer, text(session.id, "size?"))
    answered = await stored(agent, text(session.id, "XL"))
    not_here = await stored(agent, text(elsewhere.id, "XL"))
    changed = await stored(agent, edit(session, answered, "XXL"))

    for stream, post in (
        (customer, recall(session, answered)),
        (agent, recall(session, asked)),
        (agent, edit(session, asked, "no size")),
        # The contract names agents and supervisors beside the kind.
        (customer, edit(session, asked, "which size?")),
    ):
        assert await refused(stream, post) == errors_pb2.REASON_ROLE_NOT_ALLOWED
    for post in (
        recall(session, not_here),
        edit(session, not_here, "XXL"),
        recall(session, changed),
        edit(session, changed, "M"),
        edit(session, changed + 1_000_000, "M"),
    ):
        assert await refused(agent, post) == errors_pb2.REASON_NOT_FOUND
    for post in (recall(session, 0), edit(session, answered, "")):
        assert await refused(agent, post) == errors_pb2.REASON_INVALID_ARGUMENT
    no_text = text(session.id, "-")
    no_text.content.edit.target_seq = answered
    assert await refused(agent, no_text) == errors_pb2.REASON_INVALID_ARGUMENT


async def test_a_colleague_who_takes_over_cannot_change_what_the_agent_before_wrote(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chat.converse(AGENT, "AGENT")
    answered = await stored(agent, text(session.id, "XL"))
    await chat.sessions.change(session, "ACTIVE", agent_id=OTHER)
    colleague = await chat.converse(OTHER, "AGENT")
    assert await refused(colleague, edit(session, answered, "M")) == errors_pb2.REASON_ROLE_NOT_ALLOWED
    assert await refused(colleague, recall(session, answered)) == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_a_customer_takes_back_what_they_said_as_a_visitor(chat: Chat) -> None:
    visitor = CUSTOMER + 1000
    session = chat.sessions.open(visitor, AGENT, "ACTIVE")
    said = await stored(await chat.converse(visitor, "VISITOR"), text(session.id, "hello"))
    await chat.sessions.change(session, "ACTIVE")
    session.customer_id = CUSTOMER
    session.version += 1
    customer = await chat.converse(CUSTOMER)
    agent = await chat.converse(AGENT, "AGENT", cursors={session.id: said})
    await chat.sessions.change(session, "ACTIVE")
    await agent.next("message", 2)
    assert await stored(customer, recall(session, said))


async def test_an_agent_edits_until_the_message_is_recalled(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    session.locale = "en-GB"
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    answered = await stored(agent, text(session.id, "It costs 10"))
    await stored(agent, edit(session, answered, "It costs 100"))
    _, edited = await customer.next("message", 2)
    assert (edited.content.edit.target_seq, edited.content.edit.text.text) == (answered, "It costs 100")
    assert edited.content.fallback_text == "Correction: It costs 100"

    await stored(agent, recall(session, answered))
    assert await refused(agent, edit(session, answered, "It costs 5")) == errors_pb2.REASON_TOO_LATE


async def test_what_has_left_the_log_is_looked_for_in_the_history(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chat.converse(AGENT, "AGENT")
    kept = message_pb2.Message(
        session_id=session.id, seq=1, content=message_pb2.Content(text=message_pb2.Text(text="long ago"))
    )
    kept.sender.user_id, kept.sender.kind = AGENT, message_pb2.SENDER_KIND_AGENT
    gone = message_pb2.Message(session_id=session.id, seq=2, content=message_pb2.Content(fallback_text="recalled"))
    gone.sender.CopyFrom(kept.sender)
    gone.recalled_at.GetCurrentTime()
    chat.history.messages += [kept, gone]
    assert await stored(agent, quote(session, 1, "as I said"))
    assert await stored(agent, edit(session, 1, "corrected"))
    assert await refused(agent, recall(session, 1)) == errors_pb2.REASON_TOO_LATE
    assert await refused(agent, edit(session, 2, "corrected")) == errors_pb2.REASON_TOO_LATE
    assert await refused(agent, quote(session, 2, "as I said")) == errors_pb2.REASON_NOT_FOUND


async def test_a_quote_names_a_message_with_words_of_this_session(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    elsewhere = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer, agent = await chat.converse(CUSTOMER), await chat.converse(AGENT, "AGENT")
    asked = await stored(customer, text(session.id, "size?"))
    assert await stored(agent, quote(session, asked, "XL"))
    assert [message.quoted_seq for message in await customer.next("message")] == [asked]
    taken_back = await stored(customer, recall(session, asked))
    for seq in (taken_back, taken_back + 1_000_000):
        assert await refused(agent, quote(session, seq, "this")) == errors_pb2.REASON_NOT_FOUND
    assert await refused(agent, quote(elsewhere, asked, "this")) == errors_pb2.REASON_NOT_FOUND
    assert await refused(agent, quote(session, -1, "this")) == errors_pb2.REASON_INVALID_ARGUMENT


async def test_send_refuses_as_streams_do(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    words = message_pb2.Content(text=message_pb2.Text(text="never mind"))
    late = await said_before(chat, session, words, age=RECALL_WITHIN_S + 1)
    stub = await chat.stub()
    with pytest.raises(Refused) as told:
        await stub.Send(
            chat_service_pb2.SendRequest(post=recall(session, late)), metadata=with_token(chat.token(CUSTOMER))
        )
    assert told.value.reason == errors_pb2.REASON_TOO_LATE
