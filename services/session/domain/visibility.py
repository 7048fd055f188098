"""Who may see a session, and what they may do with it."""

from __future__ import annotations

from dataclasses import dataclass

from services.session.domain.errors import NotFound, WrongState
from services.session.domain.session import EndReason, Session, SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who asks: what a person or service may see and do with a session."""

    tenant_id: str
    user_id: int
    shopper: bool = False
    agent: bool = False
    supervisor: bool = False
    service: bool = False

    def sees(self, session: Session) -> bool:
        """Shoppers see their own, agents their own and those that wait, supervisors and services all of the shop."""
        if session.tenant_id != self.tenant_id:
            return False
        return (
            self.supervisor
            or self.service
            or (self.shopper and session.customer_id == self.user_id)
            or (self.agent and (session.agent_id == self.user_id or session.state is SessionState.WAITING))
        )

    def must_see(self, session: Session | None) -> Session:
        """Give back the session. Raises `NotFound` for a missing one and for one that is not to be seen, alike."""
        if session is None or not self.sees(session):
            raise NotFound("there is no such session")
        return session

    def end_reason(self, session: Session) -> EndReason:
        """Say on whose account the session ends. Raises `WrongState` for a person who does not take part in it."""
        self.must_see(session)
        if self.shopper and session.customer_id == self.user_id:
            return EndReason.CUSTOMER
        if self.supervisor or (self.agent and session.agent_id == self.user_id):
            return EndReason.AGENT
        raise WrongState("only those who take part in a session can end it, and it is not assigned to you")
