"""Who may see a session, and what they may do with it: the one rule that every reader asks.

| who | sees |
| --- | --- |
| a visitor or customer | their own sessions |
| an agent | the sessions offered to them, theirs, those in which they talked before, and those that wait |
| a supervisor or an administrator of the shop | all sessions of the shop |
| a service (the bot, chat, the archive for a partner) | all sessions of the shop |

Seeing a session means its state and its history. Callers who may not see it get NOT_FOUND. Participation (following it
live, posting, sending signals) is narrower: chat allows it to the customer and the currently assigned agent. The list
of sessions asks the same rule in SQL (`rows.visible_to`); a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.session.domain.errors import NotFound, WrongState
from services.session.domain.session import EndReason, Session, SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """The caller. `supervisor` includes the administrators of the shop."""

    tenant_id: str
    user_id: int
    shopper: bool = False
    agent: bool = False
    supervisor: bool = False
    service: bool = False

    def sees(self, session: Session) -> bool:
        """Return whether they may see the session and its history."""
        if session.tenant_id != self.tenant_id:
            return False
        return (
            self.supervisor
            or self.service
            or (self.shopper and session.customer_id == self.user_id)
            or (self.agent and self._has_or_may_take(session))
        )

    def _has_or_may_take(self, session: Session) -> bool:
        return (
            session.agent_id == self.user_id
            or self.user_id in session.former_agents
            or session.state is SessionState.WAITING
        )

    def must_see(self, session: Session | None) -> Session:
        """Return the session. Raises `NotFound` for a missing one and for a hidden one alike."""
        if session is None or not self.sees(session):
            raise NotFound("there is no such session")
        return session

    def end_reason(self, session: Session) -> EndReason:
        """Return the reason when the viewer ends the session. Raises `WrongState` for one who takes no part in it."""
        self.must_see(session)
        if self.shopper and session.customer_id == self.user_id:
            return EndReason.CUSTOMER
        if self.supervisor or (self.agent and session.agent_id == self.user_id):
            return EndReason.AGENT
        raise WrongState("only those who take part in a session can end it, and it is not assigned to you")
