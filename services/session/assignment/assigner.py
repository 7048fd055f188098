"""Assign waiting sessions to agents.

PostgreSQL is the truth; the live queue (Valkey) proposes, atomically, which agent gets which session. A change takes
four steps:

1. a transaction in PostgreSQL changes the session or the agent;
2. the live queue takes over the new rows and proposes offers, reserving a place for each;
3. each offer is a transaction of its own, which checks again that the session waits and the agent has a place;
4. its outcome goes back to the live queue, which may propose again.

A process can die between any two of these steps. `reconcile` finds what it left undone by comparing the two: rows that
the live queue does not know, sessions that have ended, and proposals that nobody carries out. Rows carry versions, so
all instances may do all of this at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import structlog

from mesh import deadline
from services.session.assignment.live_queue import LiveQueue, NotBuilt, Proposal, QueueDown
from services.session.domain import LIVE, Agent, NotTaking, Session, SessionState
from services.session.events import SessionChanged
from services.session.store import Store

T = TypeVar("T")

_log = structlog.get_logger(__name__)

# Rounds of proposals in one run. More are left to the next run, so that no request pays for all others.
_MOST_ROUNDS = 50
# What a request waits for its own change to be settled, in seconds.
_SETTLED_WITHIN_S = 2.0


@dataclass(slots=True)
class _Round:
    """Rows and withdrawn proposals to send to the live queue next."""

    sessions: list[Session] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)
    withdrawn: list[Proposal] = field(default_factory=list)


class Assigner:
    """Keep the live queue in step with PostgreSQL, and carry out its proposals."""

    def __init__(self, *, store: Store, queue: LiveQueue, offer: timedelta, on_change: Callable[[str], None]) -> None:
        self._store = store
        self._queue = queue
        # How long an agent has to accept.
        self.offer = offer
        # Called with the shop whose queue may have changed.
        self._on_change = on_change
        self._rebuilding: dict[str, asyncio.Lock] = {}
        # Shops whose live queue could not be updated. Other instances find the difference by comparing.
        self._behind: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def settle(self, tenant_id: str, sessions: Iterable[Session] = (), agents: Iterable[Agent] = ()) -> None:
        """Send rows that were just committed to the live queue, and carry out its proposals.

        The rows are committed, so the work continues when the caller is cancelled, or has waited for 2 s, and no
        failure is the caller's: the live queue catches up when it is back.
        """
        first = _Round(sessions=[row for row in sessions if _is_live_or_over(row)], agents=list(agents))
        await asyncio.wait((self._start(self._settle(tenant_id, first)),), timeout=_SETTLED_WITHIN_S)

    async def reconcile(self, tenant_id: str) -> None:
        """Compare the live queue with PostgreSQL and repair what differs. Raises `QueueDown`."""
        try:
            snapshot = await self._queue.snapshot(tenant_id)
        except NotBuilt:
            await self._rebuild(tenant_id)
            snapshot = await self._queue.snapshot(tenant_id)
        # Read after the snapshot: what the live queue has and this lacks has ended since.
        sessions, agents = await self._store.live(tenant_id)
        strays = snapshot.sessions - {session.id for session in sessions}
        over = await self._store.sessions(tenant_id, sorted(strays))
        if len(over) < len(strays):
            _log.warning("queue has unknown sessions, rebuilding it", tenant=tenant_id)
            await self._rebuild(tenant_id, force=True)
        self._behind.discard(tenant_id)
        await asyncio.shield(self._start(self._settle(tenant_id, _Round(sessions + over, agents), snapshot.stale)))

    async def catch_up(self) -> None:
        """Update the live queues that this instance could not update before."""
        await each(tuple(self._behind), self.reconcile)

    async def close(self) -> None:
        """Wait for running work."""
        if self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, context=deadline.detached())
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        # The caller may have stopped waiting; the shop is marked as behind.
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("the live queue is behind", error=repr(error))

    async def _settle(self, tenant_id: str, todo: _Round, stale: Iterable[Proposal] = ()) -> None:
        try:
            proposals = [*stale, *await self._project(tenant_id, todo)]
            for _ in range(_MOST_ROUNDS):
                if not proposals:
                    break
                todo = _Round()
                for proposal in proposals:
                    if not await self._carry_out(tenant_id, proposal, todo):
                        _log.warning("queue proposed an unknown session, rebuilding it", tenant=tenant_id)
                        await self._rebuild(tenant_id, force=True)
                proposals = await self._project(tenant_id, todo)
            else:
                self._behind.add(tenant_id)
        except QueueDown as error:
            # The rows are committed; `reconcile` updates the live queue as soon as it is reachable.
            self._behind.add(tenant_id)
            _log.warning("the live queue is behind", tenant=tenant_id, error=repr(error.__cause__))
        except BaseException:
            self._behind.add(tenant_id)
            raise
        finally:
            self._on_change(tenant_id)

    async def _project(self, tenant_id: str, todo: _Round) -> list[Proposal]:
        while True:
            try:
                return await self._queue.project(
                    tenant_id, sessions=todo.sessions, agents=todo.agents, withdrawn=todo.withdrawn
                )
            except NotBuilt:
                await self._rebuild(tenant_id)

    async def _carry_out(self, tenant_id: str, proposal: Proposal, todo: _Round) -> bool:
        """Offer a session to an agent, and note in `todo` what the live queue must be updated with.

        Return False when the session or the agent does not exist: the database was restored from a backup.
        """
        async with self._store.unit_of_work(tenant_id) as work:
            agent = await work.agent(proposal.agent_id)
            before = await work.session(proposal.session_id)
            if agent is None or before is None:
                return False
            if before.version != proposal.version or before.state is not SessionState.WAITING:
                todo.sessions.append(before)
                return True
            try:
                after = before.offer(agent, work.now + self.offer)
            except NotTaking:
                # The live queue has an older view of the agent: update it completely.
                todo.withdrawn.append(proposal)
                todo.agents.append(agent)
                todo.sessions.extend(await work.seats_of(agent.user_id))
                return True
            after = await work.save(before, after, SessionChanged.ASSIGNED)
            await work.save_agent(agent, agent.assigned(work.now))
        todo.sessions.append(after)
        return True

    async def _rebuild(self, tenant_id: str, *, force: bool = False) -> None:
        """Fill the live queue from PostgreSQL: one instance does it, the others wait for it."""
        async with self._rebuilding.setdefault(tenant_id, asyncio.Lock()), self._store.alone(tenant_id) as read_live:
            if not force and await self._queue.is_built(tenant_id):
                return
            sessions, agents = await read_live()
            await self._queue.build(tenant_id, sessions=sessions, agents=agents)
        _log.info("live queue built", tenant=tenant_id, sessions=len(sessions), agents=len(agents))


def _is_live_or_over(session: Session) -> bool:
    return session.state in LIVE or session.state is SessionState.ENDED


async def each(items: Iterable[T], step: Callable[[T], Awaitable[None]]) -> None:
    """Take a step for every item: one that fails does not hold up the others. Raises an `ExceptionGroup` at the end."""
    failures = []
    for item in items:
        try:
            await step(item)
        except Exception as error:  # noqa: BLE001  # raised below
            failures.append(error)
    if failures:
        raise ExceptionGroup("some steps failed", failures)
