"""Conversations on real NATS, over real gRPC."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2
from octopus.user.v1 import user_events_pb2

from mesh.errors import Refused, from_rpc_error
from mesh.rpc.metadata import with_token
from mesh.testing import Platform
from services.chat.tests.conftest import TENANT, Chat, Stream, running, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT, STRANGER = 11, 22, 33


async def test_a_message_is_acknowledged_and_reaches_the_other_party(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER, instance=0)
    agent = await chats.converse(AGENT, "AGENT", instance=1)

    await customer.send(post=text(session.id, "我的快递到哪了？", "first-one"))
    (ack,) = await customer.next("ack")
    (message,) = await agent.next("message")

    assert ack.client_message_id == "first-one"
    assert not ack.duplicate
    assert (message.id, message.seq, message.content.text.text) == (ack.message_id, ack.seq, "我的快递到哪了？")
    assert message.sender.kind == message_pb2.SENDER_KIND_CUSTOMER
    assert message.sender.user_id == CUSTOMER


async def test_all_devices_of_a_person_see_a_message_and_the_sending_one_gets_no_echo(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER)
    phone = await chats.converse(CUSTOMER, instance=0)
    tablet = await chats.converse(CUSTOMER, instance=1)

    await phone.send(post=text(session.id, "one"))
    await phone.send(post=text(session.id, "two"))
    await phone.next("ack", 2)
    shown = await tablet.next("message", 2)

    assert [message.content.text.text for message in shown] == ["one", "two"]
    assert not [frame for frame in phone.frames if frame.HasField("message")]


async def test_a_resend_is_acknowledged_with_the_same_message(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chats.converse(AGENT, "AGENT")
    first = await chats.converse(CUSTOMER, instance=0)
    await first.send(post=text(session.id, "once", "same-id-1"))
    (ack,) = await first.next("ack")

    second = await chats.converse(CUSTOMER, instance=1)
    await second.send(post=text(session.id, "once", "same-id-1"))
    (again,) = await second.next("ack")
    await second.send(post=text(session.id, "end"))

    assert again.duplicate
    assert (again.message_id, again.seq, again.sent_at) == (ack.message_id, ack.seq, ack.sent_at)
    assert [message.content.text.text for message in await agent.next("message", 2)] == ["once", "end"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"hello": frame_pb2.Hello()}, errors_pb2.REASON_PROTOCOL),
        ({"post": text(999, "unknown session")}, errors_pb2.REASON_NOT_FOUND),
        ({"post": frame_pb2.PostMessage(session_id=1)}, errors_pb2.REASON_INVALID_ARGUMENT),
        ({"post": text(1, "x" * 8193)}, errors_pb2.REASON_INVALID_ARGUMENT),
        ({"post": text(1, "好" * 2731)}, errors_pb2.REASON_INVALID_ARGUMENT),
        ({"post": text(1, "x" * 1_000_000)}, errors_pb2.REASON_INVALID_ARGUMENT),
        ({"post": text(1, "short id", "x")}, errors_pb2.REASON_INVALID_ARGUMENT),
        ({"typing": frame_pb2.Typing(session_id=999)}, errors_pb2.REASON_NOT_FOUND),
        ({"receipt": frame_pb2.Receipt(session_id=-1)}, errors_pb2.REASON_INVALID_ARGUMENT),
        ({}, errors_pb2.REASON_INVALID_ARGUMENT),
    ],
)
async def test_a_bad_frame_is_refused_and_the_stream_goes_on(
    chat: Chat, frame: dict[str, object], reason: errors_pb2.Reason.ValueType
) -> None:
    session = chat.sessions.open(CUSTOMER)
    customer = await chat.converse(CUSTOMER)
    await customer.send(**frame)
    (refusal,) = await customer.next("refusal")
    assert refusal.reason == reason
    assert refusal.description

    await customer.send(post=text(session.id, "still here"))
    await customer.next("ack")


async def test_an_answer_may_come_from_the_bot_alone(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    customer = await chat.converse(CUSTOMER)
    answer = text(session.id, "")
    answer.content.answer.text = "I am the bot"
    await customer.send(post=answer)
    (refusal,) = await customer.next("refusal")
    assert refusal.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_another_persons_session_looks_like_none(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    await (await chat.converse(CUSTOMER)).send(post=text(session.id, "mine"))
    stranger = await chat.converse(STRANGER, cursors={session.id: 0})
    (of_cursor,) = await stranger.next("refusal")
    assert (of_cursor.reason, of_cursor.session_id) == (errors_pb2.REASON_NOT_FOUND, session.id)
    await stranger.send(post=text(session.id, "let me in"))
    assert [refusal.reason for refusal in await stranger.next("refusal", 2)] == [errors_pb2.REASON_NOT_FOUND] * 2
    assert not [frame for frame in stranger.frames if frame.HasField("message")]


async def test_an_agent_gets_the_whole_history_when_assigned_and_speaks_when_accepted(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER)
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    await customer.send(post=text(session.id, "before the handoff"))
    await customer.next("ack")

    await chats.sessions.change(session, "ASSIGNED", agent_id=AGENT)
    (update,) = await agent.next("session")
    assert update.session.id == session.id
    assert (await agent.next("message"))[0].content.text.text == "before the handoff"
    await agent.send(post=text(session.id, "too early"))
    (refusal,) = await agent.next("refusal")
    assert refusal.reason == errors_pb2.REASON_SESSION_STATE

    # The call that accepts has returned, but its event has not arrived: chat asks again before it refuses.
    session.state = session_pb2.SESSION_STATE_ACTIVE
    session.version += 1
    await agent.send(post=text(session.id, "您好，我是客服"))
    await agent.next("ack")
    assert "您好，我是客服" in [message.content.text.text for message in await customer.next("message", 2)]


async def test_a_reminder_takes_no_words_from_anybody(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    await chats.sessions.change(session, "WARNING", agent_id=AGENT)
    for person in (customer, agent):
        await person.next("session")
    await customer.send(post=text(session.id, "I am still here"))
    await agent.send(post=text(session.id, "good"))
    for person in (customer, agent):
        await person.next("ack")


async def test_a_former_agent_sees_and_says_no_more(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    await chats.sessions.change(session, "WAITING", agent_id=0)
    await agent.next("session")
    await customer.next("session")
    await customer.send(post=text(session.id, "who is there?"))
    await customer.next("ack")
    await agent.send(post=text(session.id, "me"))
    (refusal,) = await agent.next("refusal")
    assert refusal.reason == errors_pb2.REASON_NOT_FOUND
    assert "who is there?" not in [
        frame.message.content.text.text for frame in agent.frames if frame.HasField("message")
    ]


async def test_the_bot_is_refused_when_the_log_has_moved_or_an_agent_has_accepted(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    customer = await chat.converse(CUSTOMER)
    await customer.send(post=text(session.id, "question"))
    (ack,) = await customer.next("ack")
    bot = await chat.stub(caller="bot")

    async def answer(number: int, expected: int) -> None:
        post = frame_pb2.PostMessage(
            session_id=session.id, client_message_id=f"bot-answer-{number}", expected_last_seq=expected
        )
        post.content.answer.text = "answer"
        await bot.Send(chat_service_pb2.SendRequest(post=post), metadata=chat.as_bot(), timeout=5)

    await answer(1, ack.seq)
    assert (await customer.next("message"))[0].content.answer.text == "answer"
    with pytest.raises(Refused) as moved:
        await answer(2, ack.seq)
    assert moved.value.reason == errors_pb2.REASON_VERSION_CONFLICT

    await chat.sessions.change(session, "WAITING")
    change = (await customer.next("message", 2))[-1]
    await answer(3, change.seq)
    answered = (await customer.next("message", 3))[-1]
    assert answered.sender.kind == message_pb2.SENDER_KIND_BOT

    await chat.sessions.change(session, "ACTIVE", agent_id=AGENT)
    accepted = (await customer.next("message", 4))[-1]
    with pytest.raises(Refused) as late:
        await answer(4, accepted.seq)
    assert late.value.reason == errors_pb2.REASON_SESSION_STATE
    # The agent left: it waits again, and still belongs to people.
    session.accepted_at.GetCurrentTime()
    await chat.sessions.change(session, "WAITING", agent_id=0)
    left = (await customer.next("message", 5))[-1]
    with pytest.raises(Refused) as later:
        await answer(5, left.seq)
    assert later.value.reason == errors_pb2.REASON_SESSION_STATE


async def test_subscribe_and_send_are_the_same_conversation(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    stub = await chats.stub()
    metadata = with_token(chats.token(CUSTOMER))
    call = stub.Subscribe(chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello()), metadata=metadata)
    frames = aiter(call)
    assert (await anext(frames)).frames[0].welcome.sessions[0].id == session.id

    sent = await stub.Send(chat_service_pb2.SendRequest(post=text(session.id, "over gRPC-Web")), metadata=metadata)
    again = (await anext(frames)).frames[0].message
    assert (again.id, again.seq) == (sent.ack.message_id, sent.ack.seq)
    assert (await agent.next("message"))[0].id == sent.ack.message_id
    call.cancel()


async def test_typing_and_receipts_reach_the_others_and_receipts_are_kept(chats: Chat) -> None:
    session = chats.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    customer = await chats.converse(CUSTOMER)
    agent = await chats.converse(AGENT, "AGENT", instance=1)
    await customer.send(post=text(session.id, "hello"))
    (ack,) = await customer.next("ack")
    await agent.next("message")
    await agent.send(typing=frame_pb2.Typing(session_id=session.id))
    await agent.send(receipt=frame_pb2.Receipt(session_id=session.id, read_seq=ack.seq))

    (typing,) = await customer.next("typing")
    assert typing.sender.user_id == AGENT
    (receipt,) = await customer.next("receipt")
    assert (receipt.delivered_seq, receipt.read_seq) == (ack.seq, ack.seq)

    later = await chats.converse(CUSTOMER)
    (welcome,) = await later.next("welcome")
    assert [(r.sender.user_id, r.read_seq) for r in welcome.receipts] == [(AGENT, ack.seq)]
    assert not [frame for frame in agent.frames if frame.HasField("typing")]


async def test_a_silent_client_is_asked_and_then_cut_off(platform: Platform) -> None:
    async with running(platform, heartbeat_s=0.3) as chat:
        silent = await chat.converse(CUSTOMER)
        await silent.next("ping", 2)
        error = await silent.end()
        assert error is not None
        assert from_rpc_error(error).reason == errors_pb2.REASON_HEARTBEAT_MISSED


async def test_a_client_that_answers_stays(platform: Platform) -> None:
    async with running(platform, heartbeat_s=0.2) as chat:
        alive = await chat.converse(CUSTOMER)
        for number in range(1, 6):
            ping = (await alive.next("ping", number))[-1]
            await alive.send(pong=frame_pb2.Pong(nonce=ping.nonce))
        await alive.send(ping=frame_pb2.Ping(nonce=7))
        assert (await alive.next("pong"))[0].nonce == 7
        assert not alive.ended


async def test_a_stream_ends_with_its_age_and_with_its_token(platform: Platform) -> None:
    async with running(platform, heartbeat_s=0.4, max_stream_age_s=0.5) as chat:
        aged = await chat.converse(CUSTOMER)
        assert await aged.end() is None
        assert aged.frames[-1].goodbye.reason == errors_pb2.REASON_STREAM_TOO_OLD
        assert aged.frames[-1].goodbye.HasField("reconnect_after")
    async with running(platform, heartbeat_s=2) as chat:
        expiring = await chat.converse(CUSTOMER, lifetime=3)
        assert await expiring.end() is None
        assert expiring.frames[-1].goodbye.reason == errors_pb2.REASON_TOKEN_EXPIRED


async def test_a_disabled_user_gets_the_reason_on_every_device_and_no_new_stream(chats: Chat) -> None:
    first, second = await chats.converse(CUSTOMER, instance=0), await chats.converse(CUSTOMER, instance=1)
    other = await chats.converse(AGENT, "AGENT")
    revocation = user_events_pb2.Revocation(generation=1, cause=user_events_pb2.LOG_OUT_CAUSE_DISABLED)
    revocation.revoked_at.GetCurrentTime()
    chats.revocations.take(f"{TENANT}.{CUSTOMER}", revocation.SerializeToString())
    for stream in (first, second):
        assert await stream.end(timeout=10) is None
        goodbye = stream.frames[-1].goodbye
        assert goodbye.reason == errors_pb2.REASON_DISABLED
        # Connecting again with this token leads nowhere.
        assert not goodbye.HasField("reconnect_after")
    stub = await chats.stub(0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Converse(metadata=with_token(chats.token(CUSTOMER))).read()
    assert from_rpc_error(refused.value).reason == errors_pb2.REASON_DISABLED
    await other.send(ping=frame_pb2.Ping(nonce=9))
    assert (await other.next("pong"))[0].nonce == 9
    # A token from a log-in after that is as good as any.
    await chats.converse(CUSTOMER, gen=1)


async def test_a_stopping_instance_says_goodbye(chats: Chat) -> None:
    customer = await chats.converse(CUSTOMER, instance=0)
    chats.streams[0].drain()
    assert await customer.end() is None
    goodbye = customer.frames[-1].goodbye
    assert goodbye.reason == errors_pb2.REASON_UNAVAILABLE
    assert goodbye.HasField("reconnect_after")
    stub = await chats.stub(0)
    call = stub.Converse(metadata=with_token(chats.token(CUSTOMER)))
    await call.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(hello=frame_pb2.Hello())]))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert from_rpc_error(refused.value).reason == errors_pb2.REASON_UNAVAILABLE


async def test_one_message_may_carry_many_frames_and_a_bad_one_costs_only_itself(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    stub = await chat.stub()
    call = stub.Converse(metadata=with_token(chat.token(CUSTOMER)))
    stream = Stream(call)
    posts = [text(session.id, f"number {number}") for number in range(3)]
    posts[1].client_message_id = "?"
    frames = [frame_pb2.ClientFrame(hello=frame_pb2.Hello())]
    frames += [frame_pb2.ClientFrame(post=post) for post in posts]
    await call.write(chat_service_pb2.ConverseRequest(frames=frames[:2]))
    await call.write(chat_service_pb2.ConverseRequest(frames=frames[2:]))
    reading = asyncio.create_task(stream.read())
    acks = await stream.next("ack", 2)
    assert [ack.client_message_id for ack in acks] == [posts[0].client_message_id, posts[2].client_message_id]
    assert acks[0].seq < acks[1].seq
    (refusal,) = await stream.next("refusal")
    assert (refusal.reason, refusal.client_message_id) == (errors_pb2.REASON_INVALID_ARGUMENT, "?")
    await call.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(ping=frame_pb2.Ping())] * 65))
    assert (await stream.next("refusal", 2))[1].reason == errors_pb2.REASON_INVALID_ARGUMENT
    reading.cancel()


async def test_what_waits_for_a_client_comes_in_few_messages(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    agent = await chat.converse(AGENT, "AGENT")
    for number in range(25):
        await agent.send(post=text(session.id, f"number {number}"))
    await agent.next("ack", 25)
    stub = await chat.stub()
    call = stub.Converse(metadata=with_token(chat.token(CUSTOMER)))
    await call.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(hello=frame_pb2.Hello())]))
    shown: list[str] = []
    messages = 0
    async with asyncio.timeout(30):
        while len(shown) < 25:
            response = await call.read()
            assert isinstance(response, chat_service_pb2.ConverseResponse)
            messages += 1
            shown += [frame.message.content.text.text for frame in response.frames if frame.HasField("message")]
    assert shown == [f"number {number}" for number in range(25)]
    assert messages < 10
    call.cancel()
