"""A shopper who misbehaves, and others who must not notice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import grpc
import pytest
import pytest_asyncio
from octopus.session.v1 import session_pb2

from e2e.bad_input.refusals import WITHIN_S, private
from e2e.clients.edge import Edge, Identity
from e2e.clients.participant import Participant
from e2e.people import Shop
from e2e.running import Octopus


@dataclass(frozen=True)
class Scene:
    """Somebody with a session, and sessions that are not theirs."""

    who: Identity
    session_id: int
    anothers: int
    other_shops: int


@dataclass
class Bystander:
    """Somebody who talks with an agent of another shop all the while."""

    participant: Participant
    session_id: int
    spoken: int = 0

    async def go_on(self) -> None:
        """Talk until cancelled."""
        for number in itertools.count():
            await self.participant.say(self.session_id, f"还好吗 {number}", timeout=WITHIN_S)
            self.spoken = number
            await asyncio.sleep(0.15)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def bystanders(octopus: Octopus) -> AsyncIterator[list[Bystander]]:
    """Four conversations: enough that both instances of chat hold one, but for one time in eight."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(octopus.edge.channel(own_connection=True))
        shop = Shop("xinghe", octopus.logins()["xinghe"], octopus.edge, channel)
        agent = await shop.staff(shop.agents[0])
        await shop.set_status(agent, session_pb2.AGENT_STATUS_AVAILABLE)
        # Chats of an agent without a connection would go back to the queue.
        await stack.enter_async_context(shop.present(agent))
        found = []
        for number in range(4):
            identity = await shop.customer(f"旁人{number}")
            session = await shop.open_session(identity)
            await shop.ask_for_a_person(identity, session.id)
            await shop.accept(agent, session.id)
            participant = await stack.enter_async_context(shop.present(identity))
            found.append(Bystander(participant, session.id))
        talking = [asyncio.create_task(each.go_on(), name="bystander") for each in found]
        yield found
        for task in talking:
            task.cancel()
        for result in await asyncio.gather(*talking, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), f"a bystander's talk ended: {result!r}"
        await shop.close_up()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def nobody_else_notices(bystanders: list[Bystander]) -> AsyncIterator[None]:
    """After each test the others are still on their first connection, and are heard."""
    spoken = [each.spoken for each in bystanders]
    yield
    async with asyncio.timeout(WITHIN_S):
        while any(each.spoken <= before for each, before in zip(bystanders, spoken, strict=True)):
            await asyncio.sleep(0.02)
    assert [each.participant.connects for each in bystanders] == [1] * len(bystanders)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def scene(octopus: Octopus, bystanders: list[Bystander]) -> AsyncIterator[Scene]:
    """Two customers who wait for a person, so that the bot does not answer what is said here."""
    async with octopus.edge.channel(own_connection=True) as channel:
        shop = Shop("qingshan", octopus.logins()["qingshan"], octopus.edge, channel)
        await shop.close_up()
        who, another = await shop.customer("甲"), await shop.customer("乙")
        private(who.access_token)
        mine, others = await shop.open_session(who), await shop.open_session(another)
        for identity, session in ((who, mine), (another, others)):
            await shop.ask_for_a_person(identity, session.id)
        yield Scene(who, mine.id, others.id, bystanders[0].session_id)
        await shop.close_up()


@pytest.fixture
async def fresh_scene(scene: Scene, edge: Edge, channel: grpc.aio.Channel, octopus: Octopus) -> Scene:
    """The same with a customer of its own, who may say as much at once as anybody."""
    shop = Shop("qingshan", octopus.logins()["qingshan"], edge, channel)
    who = await shop.customer("丙")
    session = await shop.open_session(who)
    await shop.ask_for_a_person(who, session.id)
    return replace(scene, who=who, session_id=session.id)
