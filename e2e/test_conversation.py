"""A shopper's question crosses the mesh end to end, by each way in."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import message_pb2
from octopus.session.v1 import session_pb2

from e2e.clients.edge import Edge
from e2e.clients.grpc_web import GrpcWeb, GrpcWebClient
from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, Transport, WebSocket
from e2e.people import Shop

pytestmark = pytest.mark.e2e

WAYS = ("grpc", "grpc-web", "websocket", "websocket-json")


def by(way: str, edge: Edge, browser: GrpcWebClient) -> Transport:
    """Return a transport by its name."""
    if way == "grpc-web":
        return GrpcWeb(browser)
    return Grpc(edge) if way == "grpc" else WebSocket(edge, json=way.endswith("json"))


@pytest.mark.parametrize("way", WAYS)
async def test_a_shopper_asks_the_bot_then_a_person(
    way: str, edge: Edge, browser: GrpcWebClient, qingshan: Shop, channel: grpc.aio.Channel
) -> None:
    agent_identity = await qingshan.staff(qingshan.agents[0])
    await qingshan.set_status(agent_identity, session_pb2.AGENT_STATUS_AVAILABLE)
    shopper_identity = await qingshan.customer("王小明")
    session = await qingshan.open_session(shopper_identity)
    assert session.state == session_pb2.SESSION_STATE_BOT

    async with (
        qingshan.present(shopper_identity, by(way, edge, browser)) as shopper,
        qingshan.present(agent_identity, by(way, edge, browser)) as agent,
    ):
        await shopper.say(session.id, "你们多久发货？")
        await shopper.until(lambda p: any(m.content.HasField("answer") for m in p.shown))
        answer = next(m for m in shopper.shown if m.content.HasField("answer"))
        assert answer.sender.kind == message_pb2.SENDER_KIND_BOT
        assert answer.content.answer.sources, "the answer names the entry it is taken from"
        assert "发" in answer.content.answer.sources[0].title

        await shopper.say(session.id, "转人工")
        await agent.until(lambda p: session.id in p.sessions)
        # Until the agent accepts, the bot goes on answering what it knows.
        await shopper.say(session.id, "你们多久发货？")
        await shopper.until(lambda p: sum(m.content.HasField("answer") for m in p.shown) == 2)
        await qingshan.accept(agent_identity, session.id)
        await shopper.until(lambda p: p.sessions[session.id].state == session_pb2.SESSION_STATE_ACTIVE)
        # The agent has the whole history: question, answer, and the request for a person.
        await agent.until(
            lambda p: {"你们多久发货？", answer.content.answer.text, "转人工"} <= set(p.texts(session.id))
        )

        await agent.say(session.id, "您好，我是小林，请问订单号是多少？")
        await shopper.until(lambda p: "您好，我是小林，请问订单号是多少？" in p.texts(session.id))
        await shopper.say(session.id, "多久能到？")
        await agent.until(lambda p: p.texts(session.id)[-1] == "多久能到？")
        await qingshan.end(agent_identity, session.id)
        # The end arrives as a notice and as a message in the log; history has the message.
        for each in (shopper, agent):
            await each.until(lambda p: p.sessions[session.id].state == session_pb2.SESSION_STATE_ENDED)
            await each.until(lambda p: _has_ended(p, session.id))

        after_handoff = shopper.texts(session.id)[shopper.texts(session.id).index("转人工") + 1 :]
        assert after_handoff == [
            "你们多久发货？",
            answer.content.answer.text,
            "您好，我是小林，请问订单号是多少？",
            "多久能到？",
        ], "the bot is silent after an agent has accepted"
        assert shopper.texts(session.id) == agent.texts(session.id)

    archive = archive_service_pb2_grpc.ArchiveServiceStub(channel)
    await _archived(archive, agent, session.id)


def _has_ended(participant: Participant, session_id: int) -> bool:
    last = max((m for m in participant.shown if m.session_id == session_id), key=lambda m: m.seq)
    return last.content.change.session.state == session_pb2.SESSION_STATE_ENDED


async def _archived(archive: archive_service_pb2_grpc.ArchiveServiceStub, agent: Participant, session_id: int) -> None:
    """Wait until history holds exactly what the agent was shown."""
    shown = {(m.id, m.seq) for m in agent.shown if m.session_id == session_id}
    async with asyncio.timeout(10):
        while True:
            page = await archive.ListMessages(
                archive_service_pb2.ListMessagesRequest(session_id=session_id, page_size=200),
                metadata=agent.identity.metadata,
            )
            if len(page.messages) >= len(shown):
                break
            await asyncio.sleep(0.1)
    assert {(m.id, m.seq) for m in page.messages} == shown
    assert [m.seq for m in page.messages] == sorted((m.seq for m in page.messages), reverse=True)


async def test_shoppers_wait_in_order_and_are_told_their_place(edge: Edge, qingshan: Shop) -> None:
    agent_identity = await qingshan.staff(qingshan.agents[0])
    identities = [await qingshan.customer(f"顾客{number}") for number in range(3)]
    sessions = [await qingshan.open_session(identity) for identity in identities]
    async with (
        qingshan.present(identities[0]) as first,
        qingshan.present(identities[1], WebSocket(edge)) as second,
        qingshan.present(identities[2]) as third,
    ):
        shoppers = (first, second, third)
        for identity, session in zip(identities, sessions, strict=True):
            waiting = await qingshan.ask_for_a_person(identity, session.id)
            assert waiting.state == session_pb2.SESSION_STATE_WAITING
        for place, (shopper, session) in enumerate(zip(shoppers, sessions, strict=True), start=1):
            await shopper.until(lambda p, s=session, n=place: p.sessions[s.id].queue_position == n)  # type: ignore[misc]

        await qingshan.end(identities[0], sessions[0].id)
        await second.until(lambda p: p.sessions[sessions[1].id].queue_position == 1)
        await third.until(lambda p: p.sessions[sessions[2].id].queue_position == 2)

        await qingshan.set_status(agent_identity, session_pb2.AGENT_STATUS_AVAILABLE)
        for shopper, session in ((second, sessions[1]), (third, sessions[2])):
            await shopper.until(
                lambda p, s=session: p.sessions[s.id].state == session_pb2.SESSION_STATE_ASSIGNED  # type: ignore[misc]
            )


async def test_the_bot_says_when_it_does_not_know_and_offers_a_person(edge: Edge, qingshan: Shop) -> None:
    identity = await qingshan.visitor("en")
    session = await qingshan.open_session(identity)
    async with qingshan.present(identity, WebSocket(edge)) as shopper:
        await shopper.say(session.id, "请问明天的天气怎么样，适合爬山吗")
        await shopper.until(lambda p: any(m.content.HasField("answer") for m in p.shown))
        answer = next(m.content.answer for m in shopper.shown if m.content.HasField("answer"))
        assert not answer.sources
        assert answer.offers_handoff
