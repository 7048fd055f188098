"""What can happen to sessions and agents: each a transaction, then the live queue is settled."""

from __future__ import annotations

from collections.abc import Callable

from services.session.change import Change
from services.session.dispatch import Dispatcher
from services.session.domain import (
    DEFAULT_CAPACITY,
    LIVE,
    Agent,
    AgentStatus,
    EndReason,
    HandoffReason,
    NotFound,
    Session,
    SessionState,
    Viewer,
    WrongState,
    kept_of,
)
from services.session.events import SessionChanged
from services.session.store import Store

# How often opening is tried when the session that was in the way ends at the same moment.
_OPENINGS = 5


class Sessions:
    """The life of all sessions. Raises what `domain.py` lists."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher, new_id: Callable[[], int]) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._new_id = new_id

    async def open(self, viewer: Viewer, *, name: str, channel: str, locale: str) -> tuple[Session, bool]:
        """Return the shopper's open session and False, or a new one and True."""
        for _ in range(_OPENINGS):
            async with self._store.change(viewer.tenant_id) as change:
                new = Session(
                    id=self._new_id(),
                    tenant_id=viewer.tenant_id,
                    customer_id=viewer.user_id,
                    customer_name=name,
                    channel=channel,
                    locale=locale,
                    opened_at=change.now,
                )
                if await change.add(new):
                    return new, True
            found = await self._store.open_of(viewer.tenant_id, viewer.user_id, limit=1)
            if found:
                return found[0], False
        raise WrongState("another session of yours is being opened and ended at this moment; try again")

    async def request_handoff(self, viewer: Viewer, session_id: int, reason: HandoffReason) -> Session:
        """Let a session wait for a person, and offer it at once when one is free."""
        # Before anything changes: without the queue nobody would come.
        await self._dispatcher.ready(viewer.tenant_id)
        async with self._store.change(viewer.tenant_id) as change:
            before = viewer.must_see(await change.session(session_id))
            after = await change.save(before, before.ask_person(reason, change.now), SessionChanged.HANDOFF_REQUESTED)
        if after.version == before.version:
            return after
        await self._dispatcher.settle(viewer.tenant_id, [after])
        return await self._now(after)

    async def accept(self, viewer: Viewer, session_id: int) -> Session:
        """The calling agent takes an offer."""
        async with self._store.change(viewer.tenant_id) as change:
            before = await change.session(session_id)
            if before is None:
                raise NotFound("there is no such session")
            after = await change.save(before, before.accept(viewer.user_id, change.now), SessionChanged.ACCEPTED)
        if after.version != before.version:
            await self._dispatcher.settle(viewer.tenant_id, [after])
        return after

    async def end(self, viewer: Viewer, session_id: int) -> Session:
        """End a session for one who takes part in it; the agent's place goes to the next who waits."""
        async with self._store.change(viewer.tenant_id) as change:
            before = viewer.must_see(await change.session(session_id))
            after = before.end(viewer.end_reason(before), change.now)
            after = await change.save(before, after, SessionChanged.ENDED)
        await self._ended(before, after)
        return after

    async def end_idle(self, tenant_id: str, session_id: int) -> None:
        """End a session in which nobody says anything any more."""
        async with self._store.change(tenant_id) as change:
            before = await change.session(session_id)
            if before is None:
                return
            after = await change.save(before, before.end(EndReason.IDLE, change.now), SessionChanged.ENDED)
        await self._ended(before, after)

    async def set_status(self, viewer: Viewer, status: AgentStatus, *, name: str, capacity: int | None) -> Agent:
        """Set the calling agent's status, name and capacity (None: as it was). Away gives unaccepted offers back."""
        if status is AgentStatus.AVAILABLE:
            await self._dispatcher.ready(viewer.tenant_id)
        async with self._store.change(viewer.tenant_id) as change:
            before = await change.agent_or_new(viewer.user_id, name)
            after = before.change(
                status=status, display_name=name or before.display_name, capacity=capacity or before.capacity
            )
            after, requeued = await _save_agent(change, before, after)
        # Also when nothing changed: one who says "available" again gets what waits.
        await self._dispatcher.settle(viewer.tenant_id, requeued, [after])
        return await self.agent(viewer, name=name)

    async def agent(self, viewer: Viewer, *, name: str) -> Agent:
        """Return the calling agent; one never seen before is away."""
        agent = await self._store.agent(viewer.tenant_id, viewer.user_id)
        return agent or Agent(tenant_id=viewer.tenant_id, user_id=viewer.user_id, display_name=name)

    async def lapse(self, tenant_id: str, agent_id: int) -> None:
        """Set an agent away who let an offer lapse; all the agent's offers go back to the queue."""
        async with self._store.change(tenant_id) as change:
            before = await change.agent(agent_id)
            offers = await change.offers_to(agent_id)
            # Accepted or given back meanwhile, perhaps by another instance that does the same.
            if before is None or not any(offer.has_lapsed(change.now) for offer in offers):
                return
            after, requeued = await _save_agent(change, before, before.change(status=AgentStatus.AWAY))
        await self._dispatcher.settle(tenant_id, requeued, [after])

    async def staff_changed(
        self, tenant_id: str, user_id: int, *, display_name: str, capacity: int, disabled: bool
    ) -> None:
        """Take over an agent's new name or capacity; one who was disabled is away. No agent, no change."""
        async with self._store.change(tenant_id) as change:
            before = await change.agent(user_id)
            if before is None:
                return
            after = before.change(
                display_name=display_name or before.display_name,
                capacity=capacity or DEFAULT_CAPACITY,
                status=AgentStatus.AWAY if disabled else before.status,
            )
            after, requeued = await _save_agent(change, before, after)
        await self._dispatcher.settle(tenant_id, requeued, [after])

    async def merge(self, tenant_id: str, *, visitor_id: int, customer_id: int, customer_name: str) -> None:
        """Give a visitor's sessions to the customer the visitor turned out to be.

        A customer has one open session: when both have one, the conversation that came further goes on, of two alike
        the younger, and the other ends. Doing it again changes nothing.
        """
        async with self._store.change(tenant_id) as change:
            sessions = await change.of_visitor(visitor_id, and_open_of=customer_id)
            changed = {}
            still_open = [session for session in sessions if session.state is not SessionState.ENDED]
            if len(still_open) == 2:
                kept = kept_of(*still_open)
                (other,) = (session for session in still_open if session is not kept)
                over = await change.save(other, other.end(EndReason.MERGED, change.now), SessionChanged.ENDED)
                changed[over.id] = over
            for session in sessions:
                if session.customer_id == visitor_id:
                    latest = changed.get(session.id, session)
                    given = latest.give_to(customer_id, customer_name)
                    changed[session.id] = await change.save(latest, given, SessionChanged.CUSTOMER_CHANGED)
        await self._dispatcher.settle(tenant_id, changed.values())

    async def _ended(self, before: Session, after: Session) -> None:
        if before.state in LIVE:
            await self._dispatcher.settle(after.tenant_id, [after])

    async def _now(self, session: Session) -> Session:
        return await self._store.session(session.tenant_id, session.id) or session


async def _save_agent(change: Change, before: Agent, after: Agent) -> tuple[Agent, list[Session]]:
    """Write an agent, whose unaccepted offers go back to the queue when the agent is away."""
    requeued = []
    if after.status is AgentStatus.AWAY:
        offers = await change.offers_to(after.user_id)
        requeued = [await change.save(offer, offer.requeue(), SessionChanged.REQUEUED) for offer in offers]
        after = after.without(len(requeued))
    await change.save_agent(before, after)
    return after, requeued
