"""The life of a session: its states, and the transitions between them.

```
          ask for a person        offer             accept           warn
   BOT ───────────────────► WAITING ────► ASSIGNED ────────► ACTIVE ◄──────► WARNING
    │                          ▲              │   requeue       │     resume    │
    │                          └──────────────┴─────────────────┴───────────────┤
    └───────────────────── end, from any open state ────────────────────────────┴──► ENDED
```

`TRANSITIONS` is the table of it, and nothing changes a state past it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import Final

from services.session.domain.agent import Agent
from services.session.domain.errors import Ended, NotTaking, Taken, WrongState


class SessionState(IntEnum):
    """The state of a session; the numbers are those of `octopus.session.v1.SessionState`."""

    BOT = 1
    WAITING = 2
    ASSIGNED = 3
    ACTIVE = 4
    ENDED = 5
    WARNING = 6


# What can follow on each state.
TRANSITIONS: Final[Mapping[SessionState, frozenset[SessionState]]] = {
    SessionState.BOT: frozenset({SessionState.WAITING, SessionState.ENDED}),
    SessionState.WAITING: frozenset({SessionState.ASSIGNED, SessionState.ENDED}),
    SessionState.ASSIGNED: frozenset({SessionState.WAITING, SessionState.ACTIVE, SessionState.ENDED}),
    SessionState.ACTIVE: frozenset({SessionState.WARNING, SessionState.WAITING, SessionState.ENDED}),
    SessionState.WARNING: frozenset({SessionState.ACTIVE, SessionState.WAITING, SessionState.ENDED}),
    SessionState.ENDED: frozenset(),
}

# An agent talks with the customer.
TALKING = (SessionState.ACTIVE, SessionState.WARNING)
# A session in one of these states takes one of its agent's places.
SEATED = (SessionState.ASSIGNED, *TALKING)
# The queue is about these: what waits and what takes a place.
LIVE = (SessionState.WAITING, *SEATED)


class EndReason(IntEnum):
    """Why a session ended; the numbers are those of `octopus.session.v1.EndReason`."""

    NONE = 0
    CUSTOMER = 1
    AGENT = 2
    IDLE = 3
    MERGED = 4


class HandoffReason(IntEnum):
    """Why a person was asked for; the numbers are those of `octopus.session.v1.HandoffReason`."""

    NONE = 0
    BUTTON = 1
    WORDS = 2
    BOT = 3
    RETURN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation of a customer with the shop. `agent_id` is 0 when there is none."""

    id: int
    tenant_id: str
    customer_id: int
    customer_name: str = field(repr=False)
    channel: str
    locale: str
    opened_at: datetime
    state: SessionState = SessionState.BOT
    version: int = 1
    agent_id: int = 0
    agent_name: str = field(default="", repr=False)
    handoff_at: datetime | None = None
    handoff_reason: HandoffReason = HandoffReason.NONE
    offered_until: datetime | None = None
    # When an agent accepted, the last time. Kept when the session goes back to the queue: a person has talked.
    accepted_at: datetime | None = None
    # Agents who talked in it before it went back to the queue.
    former_agents: tuple[int, ...] = ()
    ended_at: datetime | None = None
    end_reason: EndReason = EndReason.NONE
    # While WARNING: when it ends if nobody writes; None when it does not end by itself.
    closes_at: datetime | None = None
    # Until when the customer is asked how they were served; None when not asked.
    rate_until: datetime | None = None
    # The session that this one continues; 0 when none.
    previous_session_id: int = 0
    # While waiting: 1 is next. Not part of the state: it changes without the session changing.
    queue_position: int = 0

    def ask_person(self, reason: HandoffReason, now: datetime) -> Session:
        """Put it into the queue for a person. `now` is its place in the queue from then on. Raises `Ended`."""
        self._must_be_open()
        if self.state is not SessionState.BOT:
            return self
        return self._move(SessionState.WAITING, handoff_at=now, handoff_reason=reason)

    def offer(self, agent: Agent, until: datetime) -> Session:
        """Offer it to an agent, who has until then to accept. Raises `WrongState`, `NotTaking`."""
        self._must_allow(SessionState.ASSIGNED, "only a waiting session can be offered")
        if not agent.takes:
            raise NotTaking("the agent is not available or has no free place")
        return self._assign(agent, until)

    def pick(self, agent: Agent, now: datetime) -> Session:
        """Assign it to an agent who chose it from the queue; `accept` is to follow at once.

        What the agent has already stays as it is. Raises `Ended`, `Taken`, `WrongState` when it does not wait, and
        `NotTaking`.
        """
        self._must_be_open()
        if self.agent_id == agent.user_id:
            return self
        if self.state in SEATED:
            raise Taken(self.agent_id)
        self._must_allow(SessionState.ASSIGNED, "only a waiting session can be picked")
        agent.must_pick()
        return self._assign(agent, now)

    def requeue(self) -> Session:
        """Take it from its agent and put it back into the queue at its old place: before all who asked later.

        An agent who had accepted becomes a former agent. Raises `WrongState`.
        """
        self._must_be_seated("only a session that an agent holds can go back to the queue")
        former = self.former_agents
        if self.state in TALKING and self.agent_id not in former:
            former = (*former, self.agent_id)
        return self._move(
            SessionState.WAITING,
            agent_id=0,
            agent_name="",
            offered_until=None,
            closes_at=None,
            former_agents=former,
        )

    def accept(self, agent_id: int, now: datetime) -> Session:
        """Accept the offer. Raises `Ended`, and `WrongState` when it is not offered to this agent."""
        self._must_be_open()
        if self.agent_id != agent_id:
            raise WrongState("the session is not offered to you; it may have gone back to the queue or to a colleague")
        if self.state in TALKING:
            return self
        return self._move(SessionState.ACTIVE, accepted_at=now, offered_until=None)

    def warn(self, closes_at: datetime | None) -> Session:
        """Remind the customer that an answer is owed. Raises `WrongState` unless an agent talks with the customer."""
        if self.state is SessionState.WARNING:
            return self
        return self._move(SessionState.WARNING, closes_at=closes_at)

    def resume(self) -> Session:
        """Note that somebody wrote after the reminder. Does nothing in other states: it has been dealt with."""
        if self.state is not SessionState.WARNING:
            return self
        return self._move(SessionState.ACTIVE, closes_at=None)

    def end(self, reason: EndReason, now: datetime, *, rate_until: datetime | None = None) -> Session:
        """End it. It keeps its agent, who may still read it."""
        if self.state is SessionState.ENDED:
            return self
        return self._move(
            SessionState.ENDED,
            ended_at=now,
            end_reason=reason,
            offered_until=None,
            closes_at=None,
            rate_until=rate_until,
        )

    def rated(self) -> Session:
        """Note that the customer has said how they were served: a new version, so that everybody reads it again."""
        return self._change()

    def give_to(self, customer_id: int, customer_name: str) -> Session:
        """Move it to another customer."""
        return self._change(customer_id=customer_id, customer_name=customer_name or self.customer_name)

    def has_lapsed(self, now: datetime) -> bool:
        """Return whether the agent's time to accept is over."""
        return self.offered_until is not None and self.offered_until <= now

    def _assign(self, agent: Agent, until: datetime) -> Session:
        return self._move(
            SessionState.ASSIGNED, agent_id=agent.user_id, agent_name=agent.display_name, offered_until=until
        )

    def _must_be_open(self) -> None:
        if self.state is SessionState.ENDED:
            raise Ended("the session has ended; open a new one")

    def _must_be_seated(self, refusal: str) -> None:
        if self.state not in SEATED:
            raise WrongState(refusal)

    def _must_allow(self, state: SessionState, refusal: str) -> None:
        if state not in TRANSITIONS[self.state]:
            raise WrongState(refusal)

    def _move(self, state: SessionState, **values: object) -> Session:
        self._must_allow(state, f"a session cannot go from {self.state.name} to {state.name}")
        return self._change(state=state, **values)

    def _change(self, **values: object) -> Session:
        return replace(self, version=self.version + 1, queue_position=0, **values)  # type: ignore[arg-type]  # our own fields


def kept_of(one: Session, other: Session) -> Session:
    """Return which of two open sessions of a customer stays open: the one in the later state, then the younger one."""
    return max(one, other, key=lambda session: (_stage(session), session.opened_at, session.id))


def _stage(session: Session) -> SessionState:
    return SessionState.ACTIVE if session.state in TALKING else session.state
