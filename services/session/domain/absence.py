"""The rules of agents who vanish: when one is away, and when the chats go to somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum


class RequeueReason(IntEnum):
    """Why a session went back to the queue; the numbers are those of `octopus.session.v1.RequeueReason`."""

    NONE = 0
    NOT_ACCEPTED = 1
    AGENT_AWAY = 2
    AGENT_LOGGED_OUT = 3
    AGENT_DISCONNECTED = 4


class Absence(IntEnum):
    """How absent an agent is."""

    PRESENT = 0
    # Without a connection for too long to be offered anything.
    AWAY = 1
    # For so long that the agent's chats go to others.
    GONE = 2


@dataclass(frozen=True, slots=True)
class AbsenceRules:
    """How long agents of a shop may be without a connection."""

    away_after: timedelta = timedelta(seconds=25)
    # On top of it.
    return_after: timedelta = timedelta(seconds=90)

    def absence(self, offline_for: timedelta | None, acted_ago: timedelta) -> Absence:
        """Return how absent an agent is who has been offline for so long (None: is not), and said a status so long ago.

        Somebody who says a status is there at that moment, also without a stream.
        """
        if offline_for is None:
            return Absence.PRESENT
        vanished_for = min(offline_for, acted_ago)
        if vanished_for >= self.away_after + self.return_after:
            return Absence.GONE
        return Absence.AWAY if vanished_for >= self.away_after else Absence.PRESENT
