"""The live queue of each shop in Valkey: waiting sessions, agents with their load, and proposals.

`live_queue.lua` is the state, `routing.lua` the policy that chooses.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.resources import files
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mesh.stores.errors import Unavailable
from services.session.domain import Agent, Session

T = TypeVar("T")

# Rows in one call: a script blocks all others while it runs.
_CHUNK = 500
_TELLING_MS = 10_000
# What one call may take, and for how long none is tried after a failure, so that a frozen Valkey costs its callers
# little. In seconds.
_WITHIN_S = 1.0
_REST_S = 0.5


class QueueDown(Exception):
    """The live queue cannot be reached. It catches up with PostgreSQL when it is back."""


class NotBuilt(Exception):
    """The queue of the shop is not there: never built, or wiped."""


class Proposal(NamedTuple):
    """A place of the agent is reserved for the session in this version, until PostgreSQL confirms."""

    session_id: int
    version: int
    agent_id: int


class Snapshot(NamedTuple):
    """The sessions in the queue, and proposals that were not carried out in time."""

    sessions: frozenset[int]
    stale: Sequence[Proposal]


class LiveQueue:
    """Access to the live queues. Every method raises `QueueDown` when Valkey cannot be reached."""

    def __init__(self, valkey: Redis, *, stale_s: float = 5.0) -> None:
        """A proposal that was not carried out within `stale_s` belongs to an instance that died."""
        self._valkey = valkey
        self._stale_us = round(stale_s * 1_000_000)
        self._not_before = 0.0
        folder = files(__package__)
        policy, queue = (folder.joinpath(name).read_text() for name in ("routing.lua", "live_queue.lua"))
        self._script = valkey.register_script(policy + queue)

    async def project(
        self,
        tenant_id: str,
        *,
        sessions: Iterable[Session] = (),
        agents: Iterable[Agent] = (),
        withdrawn: Iterable[Proposal] = (),
    ) -> list[Proposal]:
        """Store rows and return what to offer next. Takes waiting, assigned, active and ended sessions.

        The places of the proposals are taken until a newer version of their session comes or they are `withdrawn`.
        Raises `NotBuilt`.
        """
        chunks = list(
            zip_longest(
                _chunks([_session(session) for session in sessions]),
                _chunks([_agent(agent) for agent in agents]),
                fillvalue=(),
            )
        ) or [((), ())]
        back = [{"id": str(p.session_id), "version": p.version, "agent": str(p.agent_id)} for p in withdrawn]
        proposals: list[Proposal] = []
        for number, (session_rows, agent_rows) in enumerate(chunks, start=1):
            answer = await self._run(
                tenant_id,
                "project",
                sessions=session_rows,
                agents=agent_rows,
                withdrawn=back if number == 1 else (),
                more=number < len(chunks),
            )
            if answer is None:
                raise NotBuilt
            proposals = [Proposal(*map(int, row)) for row in answer]
        return proposals

    async def build(self, tenant_id: str, *, sessions: Sequence[Session], agents: Sequence[Agent]) -> None:
        """Replace the queue by these rows. Nothing is proposed before all of them are stored."""
        await self._run(tenant_id, "project", sessions=(), agents=(), withdrawn=(), clear=True, building=True)
        for rows in _chunks([_agent(agent) for agent in agents]):
            await self._run(tenant_id, "project", sessions=(), agents=rows, withdrawn=(), building=True)
        for rows in _chunks([_session(session) for session in sessions]):
            await self._run(tenant_id, "project", sessions=rows, agents=(), withdrawn=(), building=True)
        epoch = datetime.now(UTC).isoformat(timespec="milliseconds")
        await self._run(tenant_id, "project", sessions=(), agents=(), withdrawn=(), building=True, epoch=epoch)

    async def is_built(self, tenant_id: str) -> bool:
        """Return whether the queue has been built."""
        async with self._reaching():
            return bool(await self._valkey.exists(f"{_shop(tenant_id)}:epoch"))

    async def snapshot(self, tenant_id: str) -> Snapshot:
        """Return what reconciliation compares with PostgreSQL. Raises `NotBuilt`."""
        answer = await self._run(tenant_id, "snapshot", stale_us=self._stale_us)
        if answer is None:
            raise NotBuilt
        sessions, stale = answer
        return Snapshot(frozenset(map(int, sessions)), [Proposal(*map(int, row)) for row in stale])

    async def changed_positions(self, tenant_id: str, *, limit: int) -> dict[int, int]:
        """Return by session the positions, among the first `limit`, that changed since the last call."""
        answer = await self._run(tenant_id, "positions", limit=limit)
        return {int(session_id): int(position) for session_id, position in answer or ()}

    async def untell(self, tenant_id: str, sessions: Iterable[int]) -> None:
        """Return the positions of these sessions again the next time."""
        await self._run(tenant_id, "untell", sessions=[str(session_id) for session_id in sessions])

    @asynccontextmanager
    async def telling(self, tenant_id: str) -> AsyncIterator[bool]:
        """Yield whether this instance alone may send positions now, so that an older one cannot arrive last."""
        key = f"{_shop(tenant_id)}:telling"
        async with self._reaching():
            mine = bool(await self._valkey.set(key, "1", nx=True, px=_TELLING_MS))
        try:
            yield mine
        finally:
            if mine:
                async with self._reaching():
                    await self._valkey.delete(key)

    @asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Raise `QueueDown` when Valkey cannot be reached or takes too long."""
        if time.monotonic() < self._not_before:
            raise QueueDown("the live queue did not answer a moment ago")
        try:
            async with asyncio.timeout(_WITHIN_S):
                yield
        except (Unavailable, RedisError, OSError) as error:
            self._not_before = time.monotonic() + _REST_S
            raise QueueDown("the live queue cannot be reached") from error

    async def _run(self, tenant_id: str, operation: str, **arguments: object) -> Any:
        async with self._reaching():
            return await self._script(keys=[_shop(tenant_id)], args=[operation, json.dumps(arguments)])


def _shop(tenant_id: str) -> str:
    return f"session:{{{tenant_id}}}"


def _session(session: Session) -> dict[str, object]:
    return {
        "id": str(session.id),
        "version": session.version,
        "state": session.state,
        "agent": str(session.agent_id),
        "order": _microseconds(session.handoff_at),
    }


def _agent(agent: Agent) -> dict[str, object]:
    return {
        "id": str(agent.user_id),
        "version": agent.version,
        "status": agent.status,
        "capacity": agent.capacity,
        "assigned": _microseconds(agent.last_assigned_at),
    }


def _microseconds(time: datetime | None) -> int:
    """Return microseconds since 1970, 0 for none; exact in a double until the year 2255."""
    return 0 if time is None else round(time.timestamp() * 1_000_000)


def _chunks(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
