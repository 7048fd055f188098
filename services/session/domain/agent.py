"""An agent: whether, and how many, sessions the agent takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum

DEFAULT_CAPACITY = 5


class AgentStatus(IntEnum):
    """Whether an agent takes sessions; the numbers are those of `octopus.session.v1.AgentStatus`."""

    AVAILABLE = 1
    BUSY = 2
    AWAY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as the queue sees one. `version` grows with each change; `load` counts assigned and active sessions."""

    tenant_id: str
    user_id: int
    display_name: str = field(repr=False)
    status: AgentStatus = AgentStatus.AWAY
    capacity: int = DEFAULT_CAPACITY
    version: int = 0
    load: int = 0
    # Of the tokens the agent acts with; a log-out everywhere raises it.
    token_generation: int = 0
    last_assigned_at: datetime | None = None

    def change(self, **values: object) -> Agent:
        """Give it other values; the same ones give it back as it was."""
        changed = replace(self, **values)  # type: ignore[arg-type]  # our own fields
        return self if changed == self else replace(changed, version=self.version + 1)

    def assigned(self, now: datetime) -> Agent:
        """Note that a session was offered; no change that others hear of."""
        return replace(self, load=self.load + 1, last_assigned_at=now)

    def without(self, sessions: int) -> Agent:
        """Note that so many sessions went elsewhere; no change that others hear of."""
        return replace(self, load=self.load - sessions)

    @property
    def takes(self) -> bool:
        """Whether one more session may be offered."""
        return self.status is AgentStatus.AVAILABLE and self.load < self.capacity
