"""The rules of sessions and agents.

Pure: time comes in as an argument and every change gives a new object, whose version is one higher. A request for
what is the case already returns the same object. Refusals are exceptions below `SessionError`.

| module | rules |
| --- | --- |
| `session.py` | the life of a session: states and transitions |
| `agent.py` | an agent's status and capacity |
| `absence.py` | when an agent without a connection is away, and when the chats go to others |
| `visibility.py` | who sees a session, and who may end it |
| `errors.py` | the refusals |
"""

from services.session.domain.absence import Absence, AbsenceRules, RequeueReason
from services.session.domain.agent import DEFAULT_CAPACITY, Agent, AgentStatus, AwayReason
from services.session.domain.errors import (
    Disabled,
    Ended,
    LoggedOut,
    NotFound,
    NotTaking,
    SessionError,
    Taken,
    VersionConflict,
    WrongState,
)
from services.session.domain.session import (
    LIVE,
    SEATED,
    TRANSITIONS,
    EndReason,
    HandoffReason,
    Session,
    SessionState,
    kept_of,
)
from services.session.domain.visibility import Viewer

__all__ = [
    "DEFAULT_CAPACITY",
    "LIVE",
    "SEATED",
    "TRANSITIONS",
    "Absence",
    "AbsenceRules",
    "Agent",
    "AgentStatus",
    "AwayReason",
    "Disabled",
    "EndReason",
    "Ended",
    "HandoffReason",
    "LoggedOut",
    "NotFound",
    "NotTaking",
    "RequeueReason",
    "Session",
    "SessionError",
    "SessionState",
    "Taken",
    "VersionConflict",
    "Viewer",
    "WrongState",
    "kept_of",
]
