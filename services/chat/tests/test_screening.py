"""Sensitive words in what customers and agents write: refused, masked or recorded before anything is stored."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from octopus.chat.v1 import chat_events_pb2, chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.moderation.v1 import moderation_events_pb2, words_pb2
from octopus.session.v1 import session_pb2

from mesh.bus import StoredMessage, connect, parse
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.rpc.metadata import with_token
from mesh.testing import Platform
from services.chat.screening.rules import Action
from services.chat.tests.conftest import TENANT, Chat, running

pytestmark = pytest.mark.service

CUSTOMER, AGENT = 501, 502


@pytest.fixture
async def chat(platform: Platform) -> AsyncIterator[Chat]:
    async with running(platform) as started:
        started.words.base_words = {"weapons": ["炸药"]}
        started.words.categories = {"weapons": Action.BLOCK}
        started.words.set(傻逼=Action.MASK, 代开发票=Action.BLOCK, 投诉=Action.REVIEW)
        yield started


async def send(
    chat: Chat, session: session_pb2.Session, text: str, *, by: int = CUSTOMER, known_as: str = ""
) -> frame_pb2.Ack:
    stub = await chat.stub()
    role = "AGENT" if by == AGENT else "CUSTOMER"
    post = frame_pb2.PostMessage(
        session_id=session.id,
        client_message_id=known_as or uuid.uuid4().hex,
        content=message_pb2.Content(text=message_pb2.Text(text=text)),
    )
    response = await stub.Send(
        chat_service_pb2.SendRequest(post=post), metadata=with_token(chat.token(by, role)), timeout=20
    )
    return response.ack


async def stored(chat: Chat, session: session_pb2.Session) -> list[str]:
    entries = await read(chat, f"log.{TENANT}.{session.id}")
    return [parse(chat_events_pb2.LogEntry, entry.data).message.content.text.text for entry in entries]


async def recorded(chat: Chat, session: session_pb2.Session) -> list[chat_events_pb2.WordsFound]:
    entries = await read(chat, f"event.chat.{TENANT}.{session.id}")
    return [parse(chat_events_pb2.WordsFound, entry.data) for entry in entries]


async def read(chat: Chat, subject: str) -> list[StoredMessage]:
    return await chat.bus.read(subject, after_seq=0, limit=100)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_text_with_a_blocked_word_is_refused_with_its_reason_and_recorded_without_the_text(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    with pytest.raises(Refused) as refused:
        await send(chat, session, "您好，能 代-開-發-票 吗", known_as="the-first-post")
    assert refused.value.reason == errors_pb2.REASON_SENSITIVE_WORD
    assert await stored(chat, session) == []
    (event,) = await recorded(chat, session)
    assert (event.tenant_id, event.session_id, event.customer_id, event.user_id, event.client_message_id) == (
        TENANT,
        session.id,
        CUSTOMER,
        CUSTOMER,
        "the-first-post",
    )
    assert [(each.word, each.category, each.action) for each in event.words] == [
        ("代开发票", "", words_pb2.WORD_ACTION_BLOCK)
    ]
    assert "您好".encode() not in event.SerializeToString()


async def test_a_word_of_the_platform_is_refused_where_the_shop_wants_that(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    with pytest.raises(Refused) as refused:
        await send(chat, session, "有炸藥卖吗")
    assert refused.value.reason == errors_pb2.REASON_SENSITIVE_WORD
    (event,) = await recorded(chat, session)
    assert [(each.word, each.category) for each in event.words] == [("炸药", "weapons")]


async def test_a_masked_word_is_stored_as_stars_and_recorded(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    await send(chat, session, "你这个傻 逼卖家")
    assert await stored(chat, session) == ["你这个* *卖家"]
    assert [event.words[0].action for event in await recorded(chat, session)] == [words_pb2.WORD_ACTION_MASK]


async def test_a_word_for_review_is_stored_as_it_is_and_recorded(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    await send(chat, session, "我要投诉")
    assert await stored(chat, session) == ["我要投诉"]
    assert [event.words[0].word for event in await recorded(chat, session)] == ["投诉"]


async def test_agents_are_held_to_the_same_words(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    with pytest.raises(Refused) as refused:
        await send(chat, session, "可以代开发票", by=AGENT)
    assert refused.value.reason == errors_pb2.REASON_SENSITIVE_WORD
    assert [event.user_id for event in await recorded(chat, session)] == [AGENT]


async def test_an_edit_is_held_to_the_same_words_and_leaves_none_in_its_fallback(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    first = await send(chat, session, "您好", by=AGENT)
    stub = await chat.stub()
    for text, reason in (("可以代开发票", errors_pb2.REASON_SENSITIVE_WORD), ("你个傻逼", None)):
        edit = message_pb2.Edit(target_seq=first.seq, text=message_pb2.Text(text=text))
        post = frame_pb2.PostMessage(
            session_id=session.id, client_message_id=uuid.uuid4().hex, content=message_pb2.Content(edit=edit)
        )
        request = chat_service_pb2.SendRequest(post=post)
        by = with_token(chat.token(AGENT, "AGENT"))
        if reason is None:
            await stub.Send(request, metadata=by, timeout=20)
        else:
            with pytest.raises(Refused) as refused:
                await stub.Send(request, metadata=by, timeout=20)
            assert refused.value.reason == reason
    entries = await read(chat, f"log.{TENANT}.{session.id}")
    content = parse(chat_events_pb2.LogEntry, entries[-1].data).message.content
    assert (len(entries), content.edit.text.text) == (2, "你个**")
    assert "傻逼".encode() not in content.SerializeToString()


async def test_an_ordinary_text_leaves_no_record(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    await send(chat, session, "什么时候发货？")
    assert await stored(chat, session) == ["什么时候发货？"]
    assert await recorded(chat, session) == []


async def test_a_message_that_is_sent_again_is_recorded_once(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    first = await send(chat, session, "我要投诉", known_as="the-same-post")
    again = await send(chat, session, "我要投诉", known_as="the-same-post")
    assert (again.duplicate, again.seq) == (True, first.seq)
    assert len(await recorded(chat, session)) == 1


async def test_a_change_of_the_list_counts_at_once_but_not_for_what_is_stored(platform: Platform, chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    first = await send(chat, session, "便宜吗", known_as="stored-before")
    chat.words.set(便宜=Action.BLOCK)
    identity = Identity(platform.identity, "moderation")
    async with connect(platform.nats_url, "moderation", tls=identity.client_context) as moderation:
        event = moderation_events_pb2.WordListChanged(tenant_id=TENANT, version=chat.words.version)
        await moderation.publish(f"event.moderation.{TENANT}.words", event, message_id=uuid.uuid4().hex)

    async def refused() -> bool:
        try:
            await send(chat, session, "便宜吗")
        except Refused as error:
            return error.reason == errors_pb2.REASON_SENSITIVE_WORD
        return False

    await until(refused)
    again = await send(chat, session, "便宜吗", known_as="stored-before")
    assert (again.duplicate, again.seq) == (True, first.seq)
