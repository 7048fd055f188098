"""The rules of an agent: status, capacity, load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import Final

from services.session.domain.absence import RequeueReason
from services.session.domain.errors import LoggedOut, NotTaking

DEFAULT_CAPACITY = 5


class AgentStatus(IntEnum):
    """Whether an agent takes sessions; the numbers are those of `octopus.session.v1.AgentStatus`."""

    AVAILABLE = 1
    BUSY = 2
    AWAY = 3


class AwayReason(IntEnum):
    """Why an agent is away; the numbers are those of `octopus.session.v1.AwayReason`."""

    NONE = 0
    CHOSEN = 1
    PAGE_CLOSED = 2
    OFFER_LAPSED = 3
    LOGGED_OUT = 4


# Why the offers of an agent who becomes away go back to the queue.
_REQUEUED: Final[Mapping[AwayReason, RequeueReason]] = {
    AwayReason.NONE: RequeueReason.AGENT_AWAY,
    AwayReason.CHOSEN: RequeueReason.AGENT_AWAY,
    AwayReason.PAGE_CLOSED: RequeueReason.AGENT_DISCONNECTED,
    AwayReason.OFFER_LAPSED: RequeueReason.NOT_ACCEPTED,
    AwayReason.LOGGED_OUT: RequeueReason.AGENT_LOGGED_OUT,
}


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
    # Of the tokens that the agent was last known to act with. A log-out everywhere starts a new one.
    token_generation: int = 0
    last_assigned_at: datetime | None = None
    away_reason: AwayReason = AwayReason.NONE
    # The status to return to, after the platform has set the agent away.
    earlier_status: AgentStatus | None = None
    # When the agent last said a status.
    acted_at: datetime | None = None

    def change(self, **values: object) -> Agent:
        """Return it with other values, as the next version; unchanged when they are the same."""
        changed = replace(self, **values)  # type: ignore[arg-type]  # our own fields
        return self if changed == self else replace(changed, version=self.version + 1)

    def acts(self, token_generation: int) -> Agent:
        """Note that the agent acts with a token of this generation.

        Raises `LoggedOut` for a lower generation than the stored one: the token was revoked.
        """
        if token_generation < self.token_generation:
            raise LoggedOut("you were logged out everywhere since this token was issued; log in again")
        return self.change(token_generation=token_generation)

    def chooses(self, status: AgentStatus, now: datetime) -> Agent:
        """Take the status that the agent chose."""
        reason = AwayReason.CHOSEN if status is AgentStatus.AWAY else AwayReason.NONE
        # The time alone is not a new version.
        return replace(self.change(status=status, away_reason=reason, earlier_status=None), acted_at=now)

    def vanishes(self, reason: AwayReason) -> Agent:
        """Set the agent away, who did not choose it and may return to the status before. One who is away stays so."""
        if self.status is AgentStatus.AWAY:
            return self
        return self.change(status=AgentStatus.AWAY, away_reason=reason, earlier_status=self.status)

    def logged_out(self, token_generation: int) -> Agent:
        """Take the agent off duty, unless the agent has come back with a token of this generation already."""
        if token_generation <= self.token_generation:
            return self
        return self.change(
            status=AgentStatus.AWAY,
            away_reason=AwayReason.LOGGED_OUT,
            earlier_status=None,
            token_generation=token_generation,
        )

    def assigned(self, now: datetime) -> Agent:
        """Count a session that was offered; not a new version."""
        return replace(self, load=self.load + 1, last_assigned_at=now)

    def without(self, sessions: int) -> Agent:
        """Subtract sessions that went elsewhere; not a new version."""
        return replace(self, load=self.load - sessions)

    def must_pick(self) -> None:
        """Refuse an agent who may not choose a session from the queue. Raises `NotTaking`."""
        if self.status is AgentStatus.AWAY:
            raise NotTaking("you are away; become available or busy, then pick again")
        if self.load >= self.capacity:
            raise NotTaking("you have as many sessions as your capacity allows; end one, then pick again")

    @property
    def requeue_reason(self) -> RequeueReason:
        """Return why sessions of the agent, who is away, go back to the queue."""
        return _REQUEUED[self.away_reason]

    @property
    def takes(self) -> bool:
        """Return whether one more session may be offered."""
        return self.status is AgentStatus.AVAILABLE and self.load < self.capacity
