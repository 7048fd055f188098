"""The same conversation from a browser without WebSockets: gRPC-Web, by connect-web."""

from __future__ import annotations

import secrets
from contextlib import aclosing

import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.user.v1 import auth_service_pb2

from e2e.clients.edge import Identity
from e2e.clients.grpc_web import GrpcWebClient, GrpcWebError
from e2e.people import Shop

pytestmark = pytest.mark.e2e

AUTH, SESSION, CHAT = (
    "octopus.user.v1.AuthService",
    "octopus.session.v1.SessionService",
    "octopus.chat.v1.ChatService",
)


async def visit(browser: GrpcWebClient) -> tuple[Identity, session_pb2.Session]:
    """Come as a visitor and open a session, by gRPC-Web alone."""
    identified = await browser.call(
        f"{AUTH}/IdentifyShopper",
        auth_service_pb2.IdentifyShopperRequest(tenant_id="qingshan", locale="zh-CN"),
        auth_service_pb2.IdentifyShopperResponse,
    )
    tokens = identified.tokens
    identity = Identity("qingshan", identified.user.id, tokens.access_token, tokens.refresh_token)
    opened = await browser.call(
        f"{SESSION}/OpenSession",
        session_service_pb2.OpenSessionRequest(channel="web", locale="zh-CN"),
        session_service_pb2.OpenSessionResponse,
        token=identity.access_token,
    )
    return identity, opened.session


def post(session_id: int, text: str) -> chat_service_pb2.SendRequest:
    """A message with an id of its own."""
    return chat_service_pb2.SendRequest(
        post=frame_pb2.PostMessage(
            session_id=session_id,
            client_message_id=secrets.token_hex(8),
            content=message_pb2.Content(text=message_pb2.Text(text=text)),
        )
    )


async def send(browser: GrpcWebClient, who: Identity, request: chat_service_pb2.SendRequest) -> frame_pb2.Ack:
    """Send, and return the acknowledgement."""
    response = await browser.call(f"{CHAT}/Send", request, chat_service_pb2.SendResponse, token=who.access_token)
    return response.ack


async def test_a_shopper_asks_and_is_answered_and_a_resend_is_the_same_message(browser: GrpcWebClient) -> None:
    identity, session = await visit(browser)
    assert session.state == session_pb2.SESSION_STATE_BOT
    hello = chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello())
    subscribed = browser.stream(
        f"{CHAT}/Subscribe", hello, chat_service_pb2.SubscribeResponse, token=identity.access_token
    )
    async with aclosing(subscribed):
        welcome = (await anext(subscribed)).frames[0].welcome
        assert welcome.user_id == identity.user_id
        assert [each.id for each in welcome.sessions] == [session.id]

        question = post(session.id, "你们多久发货？")
        ack = await send(browser, identity, question)
        again = await send(browser, identity, question)
        assert (again.message_id, again.seq, again.duplicate) == (ack.message_id, ack.seq, True)

        shown: list[message_pb2.Message] = []
        while not (shown and shown[-1].content.HasField("answer")):
            shown += [frame.message for frame in (await anext(subscribed)).frames if frame.HasField("message")]
        assert [message.id for message in shown].count(ack.message_id) == 1, "the resend is stored once"
        answer = shown[-1]
        assert answer.sender.kind == message_pb2.SENDER_KIND_BOT
        assert "发" in answer.content.answer.sources[0].title
        assert answer.content.answer.answers_seq == ack.seq


async def test_a_page_that_comes_back_gets_what_it_missed(browser: GrpcWebClient) -> None:
    identity, session = await visit(browser)
    first, second = [await send(browser, identity, post(session.id, text)) for text in ("第一句", "第二句")]
    hello = frame_pb2.Hello(cursors=[frame_pb2.Cursor(session_id=session.id, seq=first.seq)])
    subscribed = browser.stream(
        f"{CHAT}/Subscribe",
        chat_service_pb2.SubscribeRequest(hello=hello),
        chat_service_pb2.SubscribeResponse,
        token=identity.access_token,
    )
    async with aclosing(subscribed):
        async for response in subscribed:
            shown = [frame.message for frame in response.frames if frame.HasField("message")]
            assert all(message.seq > first.seq for message in shown)
            if any(message.id == second.message_id for message in shown):
                return
    pytest.fail("the stream ended before what was missed came")


async def test_a_browser_learns_why_it_was_refused(browser: GrpcWebClient, qingshan: Shop) -> None:
    identity, session = await visit(browser)
    await qingshan.end(identity, session.id)
    with pytest.raises(GrpcWebError) as refused:
        await send(browser, identity, post(session.id, "还在吗？"))
    assert refused.value.refused.reason == errors_pb2.REASON_SESSION_ENDED
    with pytest.raises(GrpcWebError) as refused:
        await send(browser, identity, post(session.id, ""))
    assert refused.value.refused.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert refused.value.refused.violations
