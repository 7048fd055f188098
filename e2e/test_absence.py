"""An agent's page is closed: offers go to a colleague, and she may come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from octopus.presence.v1 import presence_service_pb2, presence_service_pb2_grpc
from octopus.session.v1 import session_pb2, session_service_pb2

from e2e.clients.edge import Identity
from e2e.people import Shop
from e2e.running import Octopus

pytestmark = pytest.mark.e2e

AVAILABLE, AWAY = session_pb2.AGENT_STATUS_AVAILABLE, session_pb2.AGENT_STATUS_AWAY
# The least that a shop can ask for, and the time after it within which it is noticed.
AWAY_AFTER_S, NOTICED_WITHIN_S = 10, 20


@asynccontextmanager
async def impatient(shop: Shop) -> AsyncIterator[None]:
    """The shop's agents are away as soon as can be."""
    admin = await shop.staff(shop.who_is("ADMIN"))

    async def say(away_after: int) -> None:
        settings = session_service_pb2.AbsenceSettings()
        settings.away_after.seconds, settings.return_after.seconds = away_after, 90
        await shop.sessions.UpdateAbsenceSettings(
            session_service_pb2.UpdateAbsenceSettingsRequest(settings=settings), metadata=admin.metadata
        )

    await say(AWAY_AFTER_S)
    try:
        yield
    finally:
        await say(25)


async def online(shop: Shop, viewer: Identity) -> dict[int, bool]:
    """Return which of the shop's staff are online, as a colleague sees it."""
    presences = presence_service_pb2_grpc.PresenceServiceStub(shop.channel)
    response = await presences.ListPresence(presence_service_pb2.ListPresenceRequest(), metadata=viewer.metadata)
    return {each.user_id: each.online for each in response.presences}


async def me(shop: Shop, agent: Identity) -> session_pb2.Agent:
    """Return an agent as the queue sees them."""
    response = await shop.sessions.GetAgent(session_service_pb2.GetAgentRequest(), metadata=agent.metadata)
    return response.agent


async def test_offers_of_an_agent_whose_page_is_closed_go_on_and_she_may_return(qingshan: Shop) -> None:
    vanishing, colleague = [await qingshan.staff(login) for login in qingshan.agents[:2]]
    talks, offered = [await qingshan.customer(name) for name in ("甲", "乙")]
    async with impatient(qingshan), qingshan.present(colleague) as desk:
        async with qingshan.present(vanishing):
            await qingshan.set_status(vanishing, AVAILABLE)
            active = await qingshan.open_session(talks)
            await qingshan.ask_for_a_person(talks, active.id)
            await qingshan.accept(vanishing, active.id)
        # A reload of the page.
        async with qingshan.present(vanishing):
            offer = await qingshan.open_session(offered)
            assert (await qingshan.ask_for_a_person(offered, offer.id)).agent_id == vanishing.user_id
        await qingshan.set_status(colleague, AVAILABLE)
        # She is gone for good; the colleague is there.
        await desk.until(lambda p: offer.id in p.sessions, timeout=AWAY_AFTER_S + NOTICED_WITHIN_S)
        away = await me(qingshan, vanishing)
        assert (away.status, away.away_reason, away.earlier_status) == (
            AWAY,
            session_pb2.AWAY_REASON_PAGE_CLOSED,
            AVAILABLE,
        )
        assert (await me(qingshan, colleague)).status == AVAILABLE
        seen = await online(qingshan, colleague)
        assert (seen[vanishing.user_id], seen[colleague.user_id]) == (False, True)
        async with qingshan.present(vanishing) as back:
            # Her chat is still hers.
            assert back.sessions[active.id].state == session_pb2.SESSION_STATE_ACTIVE
            await qingshan.set_status(vanishing, away.earlier_status)
            assert (await me(qingshan, vanishing)).status == AVAILABLE
            async with asyncio.timeout(NOTICED_WITHIN_S):
                while not (await online(qingshan, colleague))[vanishing.user_id]:
                    await asyncio.sleep(0.1)


async def test_no_fault_of_chat_presence_or_valkey_sends_a_connected_agent_away(
    octopus: Octopus, qingshan: Shop
) -> None:
    agent = await qingshan.staff(qingshan.agents[0])

    async def stays() -> None:
        """Watch for longer than the session service needs to look again, a few times."""
        for _ in range(6):
            assert (await me(qingshan, agent)).status == AVAILABLE
            await asyncio.sleep(0.5)

    async with impatient(qingshan), qingshan.present(agent):
        await qingshan.set_status(agent, AVAILABLE)
        # Longer than an instance of chat may be silent, and than the agent may be without a connection.
        with octopus.frozen("valkey"):
            await asyncio.sleep(AWAY_AFTER_S + 1)
        await stays()
        await octopus.wipe_valkey()
        await stays()
        # Both instances of chat, so that the one that holds the agent's stream is among them.
        killed = [(instance, octopus.kill(instance)) for instance in ("presence-1", "chat-1", "chat-2")]
        for each in killed:
            await octopus.until_ready(other_than=each)
        await stays()
