"""One message for a (session, author's side, client message id), however late and from wherever it is sent again."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from octopus.chat.v1 import chat_events_pb2, chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2

from mesh.errors import Refused
from mesh.testing import Platform
from services.chat.tests.conftest import TENANT, Chat, Stream, running, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT, OTHER = 51, 62, 63


async def stored(chat: Chat, session: session_pb2.Session) -> list[message_pb2.Message]:
    """Return what the log has of a session, besides changes of its state."""
    entries = await chat.bus.read(f"log.{TENANT}.{session.id}", after_seq=0, limit=1000)
    messages = [chat_events_pb2.LogEntry.FromString(entry.data).message for entry in entries]
    return [message for message in messages if message.client_message_id]


async def post(stream: Stream, session: session_pb2.Session, client_message_id: str) -> frame_pb2.Ack:
    """Send a message and return its acknowledgement."""
    await stream.send(post=text(session.id, "hello", client_message_id))
    async with asyncio.timeout(30):
        while True:
            for frame in stream.frames:
                if client_message_id in (frame.ack.client_message_id, frame.refusal.client_message_id):
                    stream.frames.remove(frame)
                    assert frame.HasField("ack"), frame.refusal
                    return frame.ack
            await asyncio.sleep(0.005)


def old(session: session_pb2.Session, hours: float = 5) -> session_pb2.Session:
    """Let a session have been opened some time ago."""
    session.opened_at.FromSeconds(int(time.time() - hours * 3600))
    return session


def same(ack: frame_pb2.Ack, first: frame_pb2.Ack) -> None:
    """Check that a resend got what the first post got."""
    assert (ack.message_id, ack.seq, ack.sent_at) == (first.message_id, first.seq, first.sent_at)
    assert ack.duplicate


async def test_a_phone_that_was_offline_overnight_makes_no_duplicate(platform: Platform) -> None:
    async with running(platform, instances=2) as chat:
        session = old(chat.sessions.open(CUSTOMER, AGENT, "ACTIVE"))
        agent = await chat.converse(AGENT, "AGENT")
        phone = await chat.converse(CUSTOMER)
        first = await post(phone, session, "overnight-1")
        between = await post(phone, session, "overnight-2")
        await platform.nats.forget_ids("LOG")
        same(await post(phone, session, "overnight-1"), first)
        # On another instance, which has not seen the first one; nothing is archived yet.
        elsewhere = await chat.converse(CUSTOMER, instance=1)
        same(await post(elsewhere, session, "overnight-1"), first)
        same(await post(elsewhere, session, "overnight-2"), between)
        new = await post(elsewhere, session, "overnight-3")
        assert not new.duplicate
        # The index was read before this one was stored: the log itself knows the id.
        same(await post(phone, session, "overnight-3"), new)
        await platform.nats.forget_ids("LOG")
    async with running(platform) as restarted:
        restarted.sessions.sessions[session.id] = session
        same(await post(await restarted.converse(CUSTOMER), session, "overnight-3"), new)
        assert [m.client_message_id for m in await stored(restarted, session)] == [
            "overnight-1",
            "overnight-2",
            "overnight-3",
        ]
    assert [m.seq for m in await agent.next("message", 3)] == [first.seq, between.seq, new.seq]


async def test_an_index_is_read_again_before_the_window_has_passed_it_by(chat: Chat) -> None:
    session = old(chat.sessions.open(CUSTOMER, AGENT, "ACTIVE"))
    customer = await chat.converse(CUSTOMER)
    await post(customer, session, "before-the-index")
    later = await post(customer, session, "after-the-index")
    await chat.platform.nats.forget_ids("LOG")
    clock = time.monotonic() + 2 * 3600
    chat.first_posts[0]._monotonic = lambda: clock
    same(await post(customer, session, "after-the-index"), later)


async def test_a_visitor_who_became_a_customer_sends_again_what_the_visitor_sent(chats: Chat) -> None:
    chat = chats
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    visitor = await chat.converse(CUSTOMER, "VISITOR")
    first = await post(visitor, session, "as-a-visitor")
    became = CUSTOMER + 100
    session.customer_id = became
    session.version += 1
    customer = await chat.converse(became)
    same(await post(customer, session, "as-a-visitor"), first)
    # Overnight too, and after the end.
    old(session)
    await chat.platform.nats.forget_ids("LOG")
    customer = await chat.converse(became, instance=1)
    same(await post(customer, session, "as-a-visitor"), first)
    await chat.sessions.change(session, "ENDED")
    same(await post(customer, session, "as-a-visitor"), first)
    assert len(await stored(chat, session)) == 1


async def test_after_the_end_what_is_stored_is_acknowledged_and_what_is_new_is_refused(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    first, answer = await post(customer, session, "in-time-1"), await post(agent, session, "in-time-2")
    await chats.sessions.change(session, "ENDED")
    for instance in (0, 1):
        late = await chats.converse(CUSTOMER, instance=instance)
        same(await post(late, session, "in-time-1"), first)
        same(await post(await chats.converse(AGENT, "AGENT", instance=instance), session, "in-time-2"), answer)
        # Another side's id is nobody's resend.
        for client_message_id in ("in-time-2", "too-late-1"):
            await late.send(post=text(session.id, "hello?", client_message_id))
        assert [r.reason for r in await late.next("refusal", 2)] == [errors_pb2.REASON_SESSION_ENDED] * 2
    assert [m.client_message_id for m in await stored(chats, session)] == ["in-time-1", "in-time-2"]


async def test_an_agent_whose_session_went_on_to_somebody_else_learns_what_was_stored(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chat.converse(AGENT, "AGENT")
    first = await post(agent, session, "before-the-transfer")
    await chat.sessions.change(session, "ACTIVE", agent_id=OTHER)
    await agent.next("session")
    same(await post(agent, session, "before-the-transfer"), first)
    await agent.send(post=text(session.id, "not mine any more"))
    assert (await agent.next("refusal"))[0].reason == errors_pb2.REASON_NOT_FOUND
    # Neither does a stranger learn that there is such a message.
    stranger = await chat.converse(OTHER + 100, "AGENT")
    await stranger.send(post=text(session.id, "hello", "before-the-transfer"))
    assert (await stranger.next("refusal"))[0].reason == errors_pb2.REASON_NOT_FOUND


async def test_two_devices_that_send_the_same_id_at_once_make_one_message(platform: Platform) -> None:
    async with running(platform, instances=3, rate_burst=100) as chat:
        for session in (chat.sessions.open(CUSTOMER), old(chat.sessions.open(CUSTOMER + 1))):
            devices = [await chat.converse(session.customer_id, instance=n) for n in (0, 1, 2)]
            for number in range(5):
                acks = await asyncio.gather(*(post(device, session, f"at-once-{number}") for device in devices))
                assert len({(ack.message_id, ack.seq) for ack in acks}) == 1
                assert sorted(ack.duplicate for ack in acks) == [False, True, True]
            assert len(await stored(chat, session)) == 5


async def test_what_has_left_the_log_is_found_in_the_archive(chat: Chat) -> None:
    session = old(chat.sessions.open(CUSTOMER, AGENT, "ACTIVE"), hours=100)
    customer = await chat.converse(CUSTOMER)
    first = await post(customer, session, "three-days-ago")
    chat.history.messages = await stored(chat, session)
    chat.history.messages[0].seq = first.seq
    await chat.platform.nats.forget("LOG", before=first.seq + 1)
    await chat.platform.nats.forget_ids("LOG")
    same(await post(customer, session, "three-days-ago"), first)
    assert not (await post(customer, session, "new-today")).duplicate
    await chat.sessions.change(session, "ENDED")
    same(await post(customer, session, "three-days-ago"), first)


async def test_while_the_archive_is_away_an_old_id_is_not_taken_for_new(chat: Chat) -> None:
    session = old(chat.sessions.open(CUSTOMER, AGENT, "ACTIVE"), hours=100)
    customer = await chat.converse(CUSTOMER)

    async def away(*_: object) -> None:
        raise Refused(errors_pb2.REASON_UNAVAILABLE, "the archive is away", retry_after=1.0)

    chat.history.find = away  # type: ignore[method-assign, assignment]  # a fault of the port
    await customer.send(post=text(session.id, "hello", "maybe-stored"))
    (refusal,) = await customer.next("refusal")
    assert refusal.reason == errors_pb2.REASON_UNAVAILABLE
    assert refusal.HasField("retry_after")
    assert not await stored(chat, session)


async def test_a_young_session_costs_no_look_at_its_past(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chat.converse(CUSTOMER)
    for number in range(10):
        await post(customer, session, f"quick-quick-{number}")
    assert chat.history.asked == 0
    assert not chat.first_posts[0]._indexes


async def test_an_old_session_is_read_once_for_all_its_messages(chat: Chat) -> None:
    session = old(chat.sessions.open(CUSTOMER, AGENT, "ACTIVE"), hours=3)
    customer = await chat.converse(CUSTOMER)
    for number in range(10):
        await post(customer, session, f"quick-quick-{number}")
    (index,) = chat.first_posts[0]._indexes.values()
    assert len(index.seq_of) <= 1, "what came after the first look is in the log's own window"


async def test_the_bot_answers_once_however_late_it_answers_again(chats: Chat) -> None:
    session = old(chats.sessions.open(CUSTOMER))
    customer = await chats.converse(CUSTOMER)
    question = await post(customer, session, "a-question")
    answer = frame_pb2.PostMessage(
        session_id=session.id, client_message_id=f"bot-answer-{question.seq}", expected_last_seq=question.seq
    )
    answer.content.answer.text = "the answer"
    bots = [await chats.stub(instance, caller="bot") for instance in (0, 1)]

    async def send(bot: int) -> frame_pb2.Ack:
        request = chat_service_pb2.SendRequest(post=answer)
        return (await bots[bot].Send(request, metadata=chats.as_bot(), timeout=5)).ack

    first = await send(0)
    await chats.platform.nats.forget_ids("LOG")
    for bot in (0, 1):
        same(await send(bot), first)
    await chats.sessions.change(session, "WAITING")
    await customer.next("session")
    same(await send(1), first)
    assert len(await stored(chats, session)) == 2


async def test_a_post_whose_answer_is_lost_is_stored_once(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chat.converse(CUSTOMER)
    first = await post(customer, session, "lost-answer")
    chat.platform.nats.pause()
    try:
        stub = await chat.stub()
        request = chat_service_pb2.SendRequest(post=text(session.id, "hello", "frozen-bus-1"))
        with pytest.raises((grpc.aio.AioRpcError, Refused)):
            await stub.Send(request, metadata=(("authorization", f"Bearer {chat.token(CUSTOMER)}"),), timeout=1)
    finally:
        chat.platform.nats.resume()
    again = await post(customer, session, "frozen-bus-1")
    same(await post(customer, session, "lost-answer"), first)
    assert [m.id for m in await stored(chat, session)] == [first.message_id, again.message_id]
