"""The people of the benchmark: customers, each in a session that an agent has accepted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.user.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc

from e2e.bench.order import Pair
from e2e.clients import edge as way_in
from e2e.clients.edge import Identity
from e2e.people import Shop

T = TypeVar("T")

# Up to so many pairs, each has an agent of its own; beyond that agents take several sessions, as agents do.
AGENTS = 64
# How many calls are under way at once while people are made.
_AT_ONCE = 16
_ASSIGNED_WITHIN_S = 60.0


async def gather(shop: Shop, pairs: int) -> list[Pair]:
    """Make customers and agents and bring them together; the first `AGENTS` pairs have agents of their own."""
    agents_wanted = min(pairs, AGENTS)
    each = -(-pairs // agents_wanted)
    admin = await shop.staff(shop.who_is("ADMIN"))
    await _be_patient(shop, admin)
    agents = {
        agent.user_id: agent
        for agent in await _few_at_once(_agent(shop, admin, capacity=each) for _ in range(agents_wanted))
    }
    customers = await _few_at_once(shop.customer() for _ in range(pairs))
    found = await _few_at_once(_bring_together(shop, customer, agents) for customer in customers)
    # One session of each agent first, then a second one, and so on.
    order: dict[int, int] = {}
    ranked = []
    for pair in found:
        rank = order[pair.listener_id] = order.get(pair.listener_id, 0) + 1
        ranked.append((rank, pair))
    return [pair for _, pair in sorted(ranked, key=lambda item: item[0])]


async def _be_patient(shop: Shop, admin: Identity) -> None:
    """Let agents be on duty without a connection for as long as a shop may: theirs come with the load."""
    settings = session_service_pb2.AbsenceSettings()
    settings.away_after.seconds, settings.return_after.seconds = 300, 120
    await shop.sessions.UpdateAbsenceSettings(
        session_service_pb2.UpdateAbsenceSettingsRequest(settings=settings), metadata=admin.metadata
    )


async def _agent(shop: Shop, admin: Identity, *, capacity: int) -> Identity:
    """Create a member of staff, let them log in and be available."""
    login, password = f"bench-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    await user_service_pb2_grpc.UserServiceStub(shop.channel).CreateUser(
        user_service_pb2.CreateUserRequest(
            request_id=login,
            kind=user_pb2.USER_KIND_STAFF,
            external_id=login,
            display_name="压测客服",
            roles=[options_pb2.ROLE_AGENT],
            password=password,
            capacity=capacity,
        ),
        metadata=admin.metadata,
    )
    agent = await way_in.staff(shop.channel, shop.tenant_id, login, password)
    await shop.set_status(agent, session_pb2.AGENT_STATUS_AVAILABLE)
    return agent


async def _bring_together(shop: Shop, customer: Identity, agents: dict[int, Identity]) -> Pair:
    session = await shop.open_session(customer)
    session = await shop.ask_for_a_person(customer, session.id)
    async with asyncio.timeout(_ASSIGNED_WITHIN_S):
        while session.state == session_pb2.SESSION_STATE_WAITING:
            await asyncio.sleep(0.1)
            found = await shop.sessions.GetSession(
                session_service_pb2.GetSessionRequest(session_id=session.id), metadata=customer.metadata
            )
            session = found.session
    agent = agents[session.agent_id]
    await shop.accept(agent, session.id)
    return Pair(
        speaker_id=customer.user_id,
        speaker_token=customer.access_token,
        listener_id=agent.user_id,
        listener_token=agent.access_token,
        session_id=session.id,
    )


async def _few_at_once(work: Iterable[Awaitable[T]]) -> list[T]:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(each: Awaitable[T]) -> T:
        async with turn:
            return await each

    return await asyncio.gather(*(one(each) for each in work))


async def idle(shop: Shop, number: int) -> list[Identity]:
    """Return visitors, each with an open session."""

    async def visitor() -> Identity:
        identity = await shop.visitor()
        await shop.open_session(identity)
        return identity

    return await _few_at_once(visitor() for _ in range(number))
