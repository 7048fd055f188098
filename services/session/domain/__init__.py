"""The rules of sessions and agents.

Pure: time comes in as an argument and every change gives a new object, whose version is one higher. A request for
what is the case already returns the same object. Refusals are exceptions below `SessionError`.

| module | rules |
| --- | --- |
| `session.py` | the life of a session: states and transitions |
| `silence.py` | whose turn it is, the reminder of a silent customer, and the end; the settings of a shop |
| `closing.py` | what stays of a session: its summary, and how the customer was served |
| `agent.py` | an agent's status and capacity |
| `absence.py` | when an agent without a connection is away, and when the chats go to others |
| `visibility.py` | who sees a session, and who may end it |
| `errors.py` | the refusals |
"""

from services.session.domain.absence import Absence, AbsenceRules, RequeueReason
from services.session.domain.agent import DEFAULT_CAPACITY, Agent, AgentStatus, AwayReason
from services.session.domain.closing import Satisfaction, Summary, rate, summarize
from services.session.domain.errors import (
    AlreadyRated,
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
    TALKING,
    TRANSITIONS,
    EndReason,
    HandoffReason,
    Session,
    SessionState,
    kept_of,
)
from services.session.domain.silence import RATED_WITHIN, Settings, Speaker, Step, Turn, Word, due
from services.session.domain.visibility import Viewer

__all__ = [
    "DEFAULT_CAPACITY",
    "LIVE",
    "RATED_WITHIN",
    "SEATED",
    "TALKING",
    "TRANSITIONS",
    "Absence",
    "AbsenceRules",
    "Agent",
    "AgentStatus",
    "AlreadyRated",
    "AwayReason",
    "Disabled",
    "EndReason",
    "Ended",
    "HandoffReason",
    "LoggedOut",
    "NotFound",
    "NotTaking",
    "RequeueReason",
    "Satisfaction",
    "Session",
    "SessionError",
    "SessionState",
    "Settings",
    "Speaker",
    "Step",
    "Summary",
    "Taken",
    "Turn",
    "VersionConflict",
    "Viewer",
    "Word",
    "WrongState",
    "due",
    "kept_of",
    "rate",
    "summarize",
]
