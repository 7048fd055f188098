"""Refusals: requests that the rules do not allow.

```
SessionError
├── NotFound        there is no such session, or the caller may not see it
├── WrongState      the session is not in a state that allows this
│   └── Taken       a colleague has it
├── Ended           it is over
├── AlreadyRated    the customer has said something else of it
├── VersionConflict it changed since it was read
├── NotTaking       the agent's capacity is used up, or they are not available
├── LoggedOut       the caller's tokens were revoked; log in again
└── Disabled        the caller's account is disabled
```
"""

from __future__ import annotations

from typing import ClassVar


class SessionError(Exception):
    """A request that the rules do not allow. `reason` is a name of `octopus.errors.v1.Reason`."""

    reason: ClassVar[str]


class NotFound(SessionError):
    """There is no such session, or the caller may not see it."""

    reason = "NOT_FOUND"


class WrongState(SessionError):
    """The session is not in a state that allows this."""

    reason = "SESSION_STATE"


class Taken(WrongState):
    """A colleague has the session."""

    def __init__(self, agent_id: int) -> None:
        super().__init__("a colleague was faster: the session is no longer in the queue; pick another one")
        self.metadata = {"agent_id": str(agent_id)}


class Ended(SessionError):
    """The session is over; a new one can be opened."""

    reason = "SESSION_ENDED"


class AlreadyRated(SessionError):
    """The customer has said how they were served, and something else than now."""

    reason = "ALREADY_EXISTS"


class VersionConflict(SessionError):
    """The session changed since it was read."""

    reason = "VERSION_CONFLICT"


class NotTaking(SessionError):
    """The agent is not available or has no free place."""

    reason = "AGENT_NOT_AVAILABLE"


class LoggedOut(SessionError):
    """The caller's tokens were revoked after this one was issued."""

    reason = "TOKEN_REVOKED"


class Disabled(SessionError):
    """The caller's account is disabled."""

    reason = "DISABLED"
