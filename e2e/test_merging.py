"""A visitor talks, then logs in at the shop: the conversation, its history and its agent go along."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.user.v1 import user_service_pb2, user_service_pb2_grpc

from e2e.clients.edge import Identity
from e2e.people import Shop
from mesh.errors import from_rpc_error

pytestmark = pytest.mark.e2e


async def test_a_visitors_conversation_becomes_the_customers(qingshan: Shop, channel: grpc.aio.Channel) -> None:
    agent_identity = await qingshan.staff(qingshan.agents[0])
    await qingshan.set_status(agent_identity, session_pb2.AGENT_STATUS_AVAILABLE)
    visitor_identity = await qingshan.visitor()
    session = await qingshan.open_session(visitor_identity)
    await qingshan.ask_for_a_person(visitor_identity, session.id)
    await qingshan.accept(agent_identity, session.id)

    async with (
        qingshan.present(visitor_identity) as visitor,
        qingshan.present(agent_identity) as agent,
    ):
        await visitor.say(session.id, "我还没有登录")
        await agent.until(lambda p: "我还没有登录" in p.texts(session.id))

        customer_identity = await qingshan.customer("王小明")
        await user_service_pb2_grpc.UserServiceStub(channel).MergeVisitor(
            user_service_pb2.MergeVisitorRequest(visitor_refresh_token=visitor_identity.refresh_token),
            metadata=customer_identity.metadata,
        )
        # A page that is still open as the visitor is told to identify anew: the visitor's tokens are revoked.
        await visitor.until(lambda p: any(each.reason == errors_pb2.REASON_TOKEN_REVOKED for each in p.goodbyes))
        await agent.until(lambda p: p.sessions[session.id].customer_id == customer_identity.user_id)

        async with qingshan.present(customer_identity) as customer:
            assert customer.sessions[session.id].agent_id == agent_identity.user_id
            await customer.until(lambda p: "我还没有登录" in p.texts(session.id))
            await customer.say(session.id, "现在登录了")
            await agent.until(lambda p: "现在登录了" in p.texts(session.id))
            await agent.say(session.id, "欢迎回来")
            await customer.until(lambda p: "欢迎回来" in p.texts(session.id))
        assert not {"现在登录了", "欢迎回来"} & set(visitor.texts(session.id)), "the visitor must receive none of it"

    assert await _history(channel, customer_identity, session.id) >= {"我还没有登录", "现在登录了", "欢迎回来"}
    with pytest.raises(grpc.aio.AioRpcError) as hidden:
        await _history(channel, visitor_identity, session.id)
    assert from_rpc_error(hidden.value).reason == errors_pb2.REASON_TOKEN_REVOKED
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await qingshan.sessions.ListOpenSessions(
            session_service_pb2.ListOpenSessionsRequest(), metadata=visitor_identity.metadata
        )
    assert from_rpc_error(gone.value).reason == errors_pb2.REASON_TOKEN_REVOKED


async def _history(channel: grpc.aio.Channel, reader: Identity, session_id: int) -> set[str]:
    """Return what was said, once all three sentences are there. Raises what the archive says."""
    archive = archive_service_pb2_grpc.ArchiveServiceStub(channel)
    async with asyncio.timeout(10):
        while True:
            page = await archive.ListMessages(
                archive_service_pb2.ListMessagesRequest(session_id=session_id, page_size=200), metadata=reader.metadata
            )
            said = {message.content.text.text for message in page.messages if message.content.HasField("text")}
            if len(said) >= 3:
                return said
            await asyncio.sleep(0.1)
