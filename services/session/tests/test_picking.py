"""Agents choose from the queue themselves: over mutual TLS, on two instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from octopus.errors.v1 import errors_pb2 as errors
from octopus.session.v1 import session_pb2
from octopus.session.v1 import session_service_pb2 as pb

from mesh.errors import Refused
from mesh.testing import Platform
from services.session.tests.parts import eventually
from services.session.tests.service import Service, refusal, service

pytestmark = pytest.mark.service

FIRST_AGENT, AGENTS = 900, 4
BUSY = pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_BUSY)


@pytest.fixture(scope="module")
async def running(migrated: Platform) -> AsyncIterator[Service]:
    async with service(migrated, reconcile_every_s=0.5, lapse_every_s=0.2, offer_s=3600, tell_after_s=0.05) as opened:
        yield opened


async def waiting(running: Service, tenant: str, customer_id: int) -> int:
    customer = running.customer(tenant, customer_id)
    opened = await customer.OpenSession(pb.OpenSessionRequest(channel="web", locale="zh-CN"))
    reason = session_pb2.HANDOFF_REASON_BUTTON
    await customer.RequestHandoff(pb.RequestHandoffRequest(session_id=opened.session.id, reason=reason))
    return int(opened.session.id)


async def test_of_agents_who_pick_at_once_one_gets_the_session_and_the_others_hear_who(
    running: Service, tenant: str
) -> None:
    agents = {user_id: running.agent(tenant, user_id) for user_id in range(FIRST_AGENT, FIRST_AGENT + AGENTS)}
    for agent in agents.values():
        await agent.SetAgentStatus(BUSY)
    for customer_id in range(1, 6):
        request = pb.PickSessionRequest(session_id=await waiting(running, tenant, customer_id))
        outcomes = await asyncio.gather(
            *(agent.PickSession(request) for agent in agents.values()), return_exceptions=True
        )
        (won,) = (outcome.session for outcome in outcomes if isinstance(outcome, pb.PickSessionResponse))
        lost = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert won.state == session_pb2.SESSION_STATE_ACTIVE
        assert len(lost) == AGENTS - 1
        for refused in lost:
            assert refused.reason == errors.REASON_SESSION_STATE
            assert refused.metadata == {"agent_id": str(won.agent_id)}
        # The winner may ask again, e.g. because the answer was lost.
        again = (await agents[won.agent_id].PickSession(request)).session
        assert again == won


async def test_a_picked_session_leaves_the_queue_and_takes_a_place(running: Service, tenant: str) -> None:
    agent = running.agent(tenant, FIRST_AGENT)
    await agent.SetAgentStatus(BUSY)
    first, second, third = [await waiting(running, tenant, customer_id) for customer_id in (1, 2, 3)]
    await agent.PickSession(pb.PickSessionRequest(session_id=second))
    assert (await agent.GetAgent(pb.GetAgentRequest())).agent.load == 1
    left = (await agent.ListSessions(pb.ListSessionsRequest(states=[session_pb2.SESSION_STATE_WAITING]))).sessions
    assert {session.id: session.queue_position for session in left} == {first: 1, third: 2}
    # A colleague who becomes available is offered the others and never this one.
    colleague = running.agent(tenant, FIRST_AGENT + 1)
    await colleague.SetAgentStatus(pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AVAILABLE))
    held = (await colleague.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions
    assert {session.id for session in held} == {first, third}

    # The place is free again with its end, also in the live queue.
    await agent.EndSession(pb.EndSessionRequest(session_id=second))
    await agent.SetAgentStatus(pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AVAILABLE))
    fourth = await waiting(running, tenant, 4)

    async def offered() -> bool:
        open_now = (await agent.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions
        return [session.id for session in open_now] == [fourth]

    await eventually(offered, "the least loaded agent is offered the next one")


async def test_who_is_away_or_full_picks_nothing_and_hears_what_to_do(running: Service, tenant: str) -> None:
    agent = running.agent(tenant, FIRST_AGENT)
    request = pb.PickSessionRequest(session_id=await waiting(running, tenant, 1))
    refused = await refusal(agent.PickSession(request))
    assert refused.reason == errors.REASON_AGENT_NOT_AVAILABLE
    assert "you are away" in refused.description
    # The default capacity.
    await agent.SetAgentStatus(BUSY)
    capacity = (await agent.GetAgent(pb.GetAgentRequest())).agent.capacity
    more = [await waiting(running, tenant, customer_id) for customer_id in range(2, capacity + 2)]
    picks = [
        agent.PickSession(pb.PickSessionRequest(session_id=session_id)) for session_id in (*more, request.session_id)
    ]
    outcomes = await asyncio.gather(*picks, return_exceptions=True)
    (full,) = (outcome for outcome in outcomes if isinstance(outcome, Refused))
    assert full.reason == errors.REASON_AGENT_NOT_AVAILABLE
    assert "end one" in full.description
    assert (await agent.GetAgent(pb.GetAgentRequest())).agent.load == capacity


async def test_what_does_not_wait_cannot_be_picked(running: Service, tenant: str) -> None:
    agent, customer = running.agent(tenant, FIRST_AGENT), running.customer(tenant, 1)
    await agent.SetAgentStatus(BUSY)
    opened = await customer.OpenSession(pb.OpenSessionRequest(channel="web", locale="zh-CN"))
    request = pb.PickSessionRequest(session_id=opened.session.id)
    # The bot has it: agents do not see it.
    assert (await refusal(agent.PickSession(request))).reason == errors.REASON_NOT_FOUND
    stranger = running.agent(f"{tenant}-other", FIRST_AGENT)
    await waiting(running, tenant, 1)
    assert (await refusal(stranger.PickSession(request))).reason == errors.REASON_NOT_FOUND
    await customer.EndSession(pb.EndSessionRequest(session_id=opened.session.id))
    assert (await refusal(agent.PickSession(request))).reason == errors.REASON_SESSION_ENDED
    assert (await refusal(customer.PickSession(request))).reason == errors.REASON_ROLE_NOT_ALLOWED
