"""The life cycle of a session: open, ask for a person, accept, remind, end, rate, merge.

Each step is a transaction; then the live queue is brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from services.session.assignment.assigner import Assigner
from services.session.closing import Closing
from services.session.domain import (
    LIVE,
    Agent,
    EndReason,
    HandoffReason,
    NotFound,
    Satisfaction,
    Session,
    SessionState,
    Step,
    Viewer,
    WrongState,
    due,
    kept_of,
    rate,
)
from services.session.events import SessionChanged
from services.session.store import Store
from services.session.unit_of_work import UnitOfWork

# How often opening is tried when the session that was in the way ends at the same moment.
_OPENINGS = 5


class Lifecycle:
    """The steps of a session's life. Raise the errors of `domain/errors.py`."""

    def __init__(self, *, store: Store, assigner: Assigner, closing: Closing, new_id: Callable[[], int]) -> None:
        self._store = store
        self._closing = closing
        self._assigner = assigner
        self._new_id = new_id

    async def open(self, viewer: Viewer, *, name: str, channel: str, locale: str) -> tuple[Session, bool]:
        """Return the shopper's open session and False, or a new one and True.

        One who returns soon continues with the same agent when that agent is free.
        """
        for _ in range(_OPENINGS):
            async with self._store.unit_of_work(viewer.tenant_id) as work:
                last, settings = await work.last_of(viewer.user_id), await work.settings()
                if last is not None and not settings.continues(last, work.now):
                    last = None
                # Agents are locked before sessions.
                served = last is not None and last.accepted_at is not None and last.agent_id != 0
                agent = await work.agent(last.agent_id) if last is not None and served else None
                new = Session(
                    id=self._new_id(),
                    tenant_id=viewer.tenant_id,
                    customer_id=viewer.user_id,
                    customer_name=name,
                    channel=channel,
                    locale=locale,
                    opened_at=work.now,
                    previous_session_id=0 if last is None else last.id,
                )
                added = await work.add(new)
                if added and agent is not None and agent.takes:
                    new, agent = await self._go_on_with(work, new, agent)
            if added:
                if new.state in LIVE and agent is not None:
                    await self._assigner.settle(viewer.tenant_id, [new], [agent])
                return new, True
            found = await self._store.open_of(viewer.tenant_id, viewer.user_id, limit=1)
            if found:
                return found[0], False
        raise WrongState("another session of yours is being opened and ended at this moment; try again")

    async def request_handoff(self, viewer: Viewer, session_id: int, reason: HandoffReason) -> Session:
        """Let a session wait for a person, and offer it at once when one is free.

        It waits as soon as the database has it; while the live queue is unreachable it is offered later.
        """
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            before = viewer.must_see(await work.session(session_id))
            after = await work.save(before, before.ask_person(reason, work.now), SessionChanged.HANDOFF_REQUESTED)
        if after.version == before.version:
            return after
        await self._assigner.settle(viewer.tenant_id, [after])
        return await self._now(after)

    async def accept(self, viewer: Viewer, session_id: int) -> Session:
        """Accept an offer for the calling agent."""
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            before = await work.session(session_id)
            if before is None:
                raise NotFound("there is no such session")
            after = await work.save(before, before.accept(viewer.user_id, work.now), SessionChanged.ACCEPTED)
        if after.version != before.version:
            await self._assigner.settle(viewer.tenant_id, [after])
        return after

    async def pick(self, viewer: Viewer, session_id: int, *, name: str) -> Session:
        """Take a waiting session out of the queue for the calling agent, who chose it.

        Raises `NotFound` for one that neither waits nor ever did, and what `Session.pick` raises.
        """
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            # Locked before the session, and until the end: nobody else fills the agent's last place meanwhile.
            agent = await work.agent_or_new(viewer.user_id, name)
            before = await work.session(session_id)
            if before is None or before.state is SessionState.BOT:
                raise NotFound("there is no such session")
            picked = await work.save(before, before.pick(agent, work.now), SessionChanged.ASSIGNED)
            after = await work.save(picked, picked.accept(viewer.user_id, work.now), SessionChanged.ACCEPTED)
            if picked.version != before.version:
                await work.save_agent(agent, agent.assigned(work.now))
        if after.version != before.version:
            await self._assigner.settle(viewer.tenant_id, [after])
        return after

    async def end(self, viewer: Viewer, session_id: int) -> Session:
        """End a session for a participant; the agent's place goes to the next waiting session."""
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            before = viewer.must_see(await work.session(session_id))
            after = await _end(work, before, viewer.end_reason(before))
        await self._ended(before, after)
        return after

    async def end_idle(self, tenant_id: str, session_id: int) -> None:
        """End a session without recent messages."""
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.session(session_id)
            if before is None:
                return
            after = await _end(work, before, EndReason.IDLE)
        await self._ended(before, after)

    async def take_step(self, tenant_id: str, session_id: int) -> None:
        """Do what is due in a session whose customer may be silent: remind, go on, or end."""
        async with self._store.unit_of_work(tenant_id) as work:
            before = await work.session(session_id)
            if before is None:
                return
            turn, settings = await work.turn(session_id), await work.settings()
            match due(before, turn, settings, work.now):
                case Step.WARN:
                    await work.warned(session_id, turn.last_seq)
                    warned = before.warn(settings.closes_at(work.now))
                    after = await work.save(before, warned, SessionChanged.WARNED)
                case Step.RESUME:
                    after = await work.save(before, before.resume(), SessionChanged.RESUMED)
                case Step.CLOSE:
                    after = await _end(work, before, EndReason.IDLE)
                case Step.NOTHING:
                    return
                case never:
                    assert_never(never)
        await self._assigner.settle(tenant_id, [after])

    async def rate(self, viewer: Viewer, session_id: int, *, score: int, comment: str) -> tuple[Session, Satisfaction]:
        """Store how the customer was served. The same again changes nothing."""
        async with self._store.unit_of_work(viewer.tenant_id) as work:
            before = viewer.must_see(await work.session(session_id))
            known = await self._closing.satisfaction(work.conn, viewer.tenant_id, session_id)
            said = Satisfaction(score=score, comment=comment.strip(), rated_at=work.now)
            stands = rate(before, known, said)
            if stands is known:
                return before, stands
            await self._closing.rate(work.conn, viewer.tenant_id, session_id, stands)
            after = await work.save(before, before.rated(), SessionChanged.RATED, satisfaction=stands)
        if after.state in LIVE:
            await self._assigner.settle(after.tenant_id, [after])
        return after, stands

    async def merge(self, tenant_id: str, *, visitor_id: int, customer_id: int, customer_name: str) -> None:
        """Move a visitor's sessions to the customer that the visitor is.

        A customer has one open session: when both have one, the session in the later state stays open, of equal ones
        the younger, and the other ends. Repeating it changes nothing.
        """
        async with self._store.unit_of_work(tenant_id) as work:
            sessions = await work.of_visitor(visitor_id, and_open_of=customer_id)
            changed = {}
            still_open = [session for session in sessions if session.state is not SessionState.ENDED]
            if len(still_open) == 2:
                kept = kept_of(*still_open)
                (other,) = (session for session in still_open if session is not kept)
                over = await work.save(other, other.end(EndReason.MERGED, work.now), SessionChanged.ENDED)
                changed[over.id] = over
            for session in sessions:
                if session.customer_id == visitor_id:
                    latest = changed.get(session.id, session)
                    given = latest.give_to(customer_id, customer_name)
                    changed[session.id] = await work.save(latest, given, SessionChanged.CUSTOMER_CHANGED)
        await self._assigner.settle(tenant_id, changed.values())

    async def _go_on_with(self, work: UnitOfWork, new: Session, agent: Agent) -> tuple[Session, Agent]:
        asked = await work.save(new, new.ask_person(HandoffReason.RETURN, work.now), SessionChanged.HANDOFF_REQUESTED)
        offered = await work.save(asked, asked.offer(agent, work.now + self._assigner.offer), SessionChanged.ASSIGNED)
        busier = agent.assigned(work.now)
        await work.save_agent(agent, busier)
        return offered, busier

    async def _ended(self, before: Session, after: Session) -> None:
        if before.state in LIVE:
            await self._assigner.settle(after.tenant_id, [after])

    async def _now(self, session: Session) -> Session:
        return await self._store.session(session.tenant_id, session.id) or session


async def _end(work: UnitOfWork, before: Session, reason: EndReason) -> Session:
    rate_until = (await work.settings()).rate_until(before, work.now)
    return await work.save(before, before.end(reason, work.now, rate_until=rate_until), SessionChanged.ENDED)
