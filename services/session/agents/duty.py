"""Who is on duty: agents come, go and change, and give back what they did not accept."""

from __future__ import annotations

from services.session.assignment.assigner import Assigner
from services.session.domain import DEFAULT_CAPACITY, Agent, AgentStatus, Session, Viewer
from services.session.events import SessionChanged
from services.session.store import Store
from services.session.unit_of_work import UnitOfWork


class Duty:
    """The agents of all shops. Each change is a transaction, then the live queue is settled."""

    def __init__(self, *, store: Store, assigner: Assigner) -> None:
        self._store = store
        self._assigner = assigner

    async def set_status(self, viewer: Viewer, status: AgentStatus, *, name: str, capacity: int | None) -> Agent:
        """Set the calling agent's status, name and capacity (None: as it was). Away gives unaccepted offers back."""
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            before = await work.agent_or_new(viewer.user_id, name)
            after = before.change(
                status=status, display_name=name or before.display_name, capacity=capacity or before.capacity
            )
            after, requeued = await _save_agent(work, before, after)
        # Also when nothing changed: one who says "available" again gets what waits.
        await self._assigner.settle(viewer.tenant_id, requeued, [after])
        return await self.agent(viewer, name=name)

    async def agent(self, viewer: Viewer, *, name: str) -> Agent:
        """Return the calling agent; one never seen before is away."""
        agent = await self._store.agent(viewer.tenant_id, viewer.user_id)
        return agent or Agent(tenant_id=viewer.tenant_id, user_id=viewer.user_id, display_name=name)

    async def lapse(self, tenant_id: str, agent_id: int) -> None:
        """Set an agent away who let an offer lapse; all the agent's offers go back to the queue."""
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.agent(agent_id)
            offers = await work.offers_to(agent_id)
            # Accepted or given back meanwhile, perhaps by another instance that does the same.
            if before is None or not any(offer.has_lapsed(work.now) for offer in offers):
                return
            after, requeued = await _save_agent(work, before, before.change(status=AgentStatus.AWAY))
        await self._assigner.settle(tenant_id, requeued, [after])

    async def staff_changed(
        self, tenant_id: str, user_id: int, *, display_name: str, capacity: int, disabled: bool
    ) -> None:
        """Take over an agent's new name or capacity; one who was disabled is away. No agent, no change."""
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.agent(user_id)
            if before is None:
                return
            after = before.change(
                display_name=display_name or before.display_name,
                capacity=capacity or DEFAULT_CAPACITY,
                status=AgentStatus.AWAY if disabled else before.status,
            )
            after, requeued = await _save_agent(work, before, after)
        await self._assigner.settle(tenant_id, requeued, [after])


async def _save_agent(work: UnitOfWork, before: Agent, after: Agent) -> tuple[Agent, list[Session]]:
    """Write an agent, whose unaccepted offers go back to the queue when the agent is away."""
    requeued = []
    if after.status is AgentStatus.AWAY:
        offers = await work.offers_to(after.user_id)
        requeued = [await work.save(offer, offer.requeue(), SessionChanged.REQUEUED) for offer in offers]
        after = after.without(len(requeued))
    await work.save_agent(before, after)
    return after, requeued
