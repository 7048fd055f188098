"""The time limit of a call to a store: less than the RPC it serves, so that the handler can still answer.

A frozen component keeps its connections open and answers nothing. Every wait therefore has a limit by the caller's
clock, early enough to report the failure.
"""

from __future__ import annotations

from typing import Final

from mesh import deadline

# Part of the running call's time that is kept for reporting a failure, in seconds.
RESERVE: Final = 0.2
# The least limit, even when less time is left: a healthy store answers within this, in seconds.
_LEAST: Final = 0.05


def seconds(most: float) -> float:
    """Return how long a call to a store may take: at most `most`, less when the running RPC ends earlier."""
    left = deadline.remaining()
    return most if left is None else max(_LEAST, min(most, left - RESERVE))
