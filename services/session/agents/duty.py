"""Agents on duty: their status, and the sessions that go back to the queue when they leave."""

from __future__ import annotations

from datetime import datetime

import structlog

from services.session.agents.profiles import Profile
from services.session.assignment.assigner import Assigner
from services.session.domain import (
    DEFAULT_CAPACITY,
    Agent,
    AgentStatus,
    AwayReason,
    Disabled,
    RequeueReason,
    Session,
    Viewer,
)
from services.session.events import SessionChanged
from services.session.store import Store
from services.session.unit_of_work import UnitOfWork

_log = structlog.get_logger(__name__)


class Duty:
    """Changes of agents. Each is a transaction; then the live queue is brought up to date."""

    def __init__(self, *, store: Store, assigner: Assigner) -> None:
        self._store = store
        self._assigner = assigner

    async def set_status(
        self, viewer: Viewer, status: AgentStatus, *, name: str, profile: Profile | None, token_generation: int
    ) -> Agent:
        """Set the calling agent's status, name and capacity (as it was when there is no profile).

        Away returns unaccepted offers to the queue. Raises `Disabled`, and `LoggedOut` for a revoked token.
        """
        if profile is not None and profile.disabled:
            raise Disabled("your account is disabled; ask an administrator of your shop")
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            before = await work.agent_or_new(viewer.user_id, name)
            after = before.acts(token_generation).change(
                display_name=name or before.display_name,
                capacity=profile.capacity if profile is not None else before.capacity,
            )
            after = after.chooses(status, work.now)
            after, requeued = await _save_agent(work, before, after)
        # Also when nothing changed: setting AVAILABLE again assigns waiting sessions.
        await self._assigner.settle(viewer.tenant_id, requeued, [after])
        return await self.agent(viewer, name=name)

    async def agent(self, viewer: Viewer, *, name: str) -> Agent:
        """Return the calling agent; one without a record has the status away."""
        agent = await self._store.agent(viewer.tenant_id, viewer.user_id)
        return agent or Agent(tenant_id=viewer.tenant_id, user_id=viewer.user_id, display_name=name)

    async def lapse(self, tenant_id: str, agent_id: int) -> None:
        """Set an agent with a lapsed offer away; all the agent's offers go back to the queue."""
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.agent(agent_id)
            offers = await work.offers_to(agent_id)
            # Accepted or requeued in the meantime, perhaps by another instance.
            if before is None or not any(offer.has_lapsed(work.now) for offer in offers):
                return
            after, requeued = await _save_agent(work, before, before.vanishes(AwayReason.OFFER_LAPSED))
        await self._assigner.settle(tenant_id, requeued, [after])

    async def page_closed(self, tenant_id: str, agent_id: int, *, acted_at: datetime, gone: bool) -> None:
        """Set an agent without a connection away, so that offers go to others; `gone`: the agent's chats, too.

        The agent's accepted chats then wait again where they stood: before all who asked later. Nothing changes when
        the agent has said a status since `acted_at`, and when it is done again.
        """
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.agent(agent_id)
            if before is None or before.acted_at != acted_at:
                return
            after, requeued = await _save_agent(work, before, before.vanishes(AwayReason.PAGE_CLOSED))
            if gone:
                held = await work.seats_of(agent_id)
                requeued += [
                    await work.save(
                        session,
                        session.requeue(),
                        SessionChanged.REQUEUED,
                        reason=RequeueReason.AGENT_DISCONNECTED,
                    )
                    for session in held
                ]
                after = after.without(len(held))
            if after is before and not requeued:
                return
        _log.info("agent has no connection", tenant=tenant_id, user_id=agent_id, sessions=len(requeued), gone=gone)
        await self._assigner.settle(tenant_id, requeued, [after])

    async def staff_changed(self, tenant_id: str, user_id: int, *, display_name: str, capacity: int) -> None:
        """Update an agent's name and capacity. A user who is no agent is ignored."""
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.agent(user_id)
            if before is None:
                return
            after = before.change(
                display_name=display_name or before.display_name, capacity=capacity or DEFAULT_CAPACITY
            )
            await work.save_agent(before, after)
        await self._assigner.settle(tenant_id, agents=[after])

    async def logged_out(self, tenant_id: str, user_id: int, *, display_name: str, token_generation: int) -> None:
        """Take an agent off duty whose tokens were revoked, and return all their sessions to the queue.

        The sessions wait again where they stood: before all who asked later. Doing it again, or after the agent has
        come back with a newer token, changes nothing. The generation is kept for one never seen before, too, so that
        a running call with an older token does not put the agent on duty.
        """
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.agent_or_new(user_id, display_name)
            after = before.logged_out(token_generation)
            if after is before:
                return
            held = await work.seats_of(user_id)
            requeued = [
                await work.save(session, session.requeue(), SessionChanged.REQUEUED, reason=after.requeue_reason)
                for session in held
            ]
            await work.save_agent(before, after)
            after = after.without(len(requeued))
        _log.info("agent taken off duty", tenant=tenant_id, user_id=user_id, sessions=len(requeued))
        await self._assigner.settle(tenant_id, requeued, [after])


async def _save_agent(work: UnitOfWork, before: Agent, after: Agent) -> tuple[Agent, list[Session]]:
    """Write an agent, whose unaccepted offers go back to the queue when the agent is away."""
    requeued = []
    if after.status is AgentStatus.AWAY:
        offers = await work.offers_to(after.user_id)
        requeued = [
            await work.save(offer, offer.requeue(), SessionChanged.REQUEUED, reason=after.requeue_reason)
            for offer in offers
        ]
        after = after.without(len(requeued))
    await work.save_agent(before, after)
    return after, requeued
