"""Look for agents who have vanished: no page of theirs is connected any more."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Final, Protocol

from services.session.agents.duty import Duty
from services.session.agents.presence import MOST
from services.session.assignment.assigner import each
from services.session.domain import Absence
from services.session.store import AtWork, Store

# What was known longer ago is not acted on, in seconds: this process may have been frozen in between.
_KNOWN_S: Final = 5.0


class Presences(Protocol):
    """Who is connected."""

    async def offline_for(self, tenant_id: str, user_ids: Sequence[int]) -> Mapping[int, timedelta | None]:
        """Return how long each of these persons has had no connection; None for who has one."""


class AbsenceWatch:
    """The periodic job. One instance does it, under a lease; each step is safe to be done by two at once."""

    def __init__(self, *, store: Store, duty: Duty, presences: Presences) -> None:
        self._store = store
        self._duty = duty
        self._presences = presences

    async def look(self) -> None:
        """Set agents away who have no connection, and return the chats of those who stay away.

        Raises `Refused` while the presence service does not answer: what is not known makes nobody absent.
        """
        for tenant_id, agents in groupby(await self._store.at_work(), key=lambda agent: agent.tenant_id):
            of_shop = list(agents)
            for start in range(0, len(of_shop), MOST):
                await self._look_at(tenant_id, of_shop[start : start + MOST])

    async def _look_at(self, tenant_id: str, agents: Sequence[AtWork]) -> None:
        asked_at = time.monotonic()
        offline_for = await self._presences.offline_for(tenant_id, [agent.agent_id for agent in agents])

        async def act(agent: AtWork) -> None:
            absence = agent.rules.absence(offline_for.get(agent.agent_id), agent.acted_ago)
            known = time.monotonic() - asked_at < _KNOWN_S
            if known and (absence is Absence.GONE or (absence is Absence.AWAY and not agent.away)):
                gone = absence is Absence.GONE
                await self._duty.page_closed(tenant_id, agent.agent_id, acted_at=agent.acted_at, gone=gone)

        await each(agents, act)
