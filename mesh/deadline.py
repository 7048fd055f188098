"""How much time the running call still has; outgoing calls ask for less.

Each hop keeps a little of its time, so that it can say what was too slow before its own caller gives up.
"""

from __future__ import annotations

import time
from contextvars import Context, ContextVar, copy_context
from typing import Final

# Unary calls whose client sent no deadline get this much, in seconds.
DEFAULT: Final = 30.0

# What an outgoing call asks for when nothing else limits it, in seconds.
OUTGOING: Final = 5.0

# A hop keeps this share of the time it is given, and at most so many seconds.
_KEPT_SHARE: Final = 0.1
_KEPT_MOST: Final = 0.25

# The moment it ends by `time.monotonic`, None where nothing limits the call.
ends_at: ContextVar[float | None] = ContextVar("octopus_deadline", default=None)


def remaining() -> float | None:
    """Return the seconds that the running call still has, not below 0; None without a deadline."""
    end = ends_at.get()
    return None if end is None else max(0.0, end - time.monotonic())


def budget(given: float) -> float:
    """Return what may be used of the seconds that are given: the rest is for the report."""
    return max(0.0, given - min(_KEPT_MOST, given * _KEPT_SHARE))


def shrunk(wanted: float | None) -> float | None:
    """Return the timeout of an outgoing call: what is wanted, but always less than what the running call still has."""
    left = remaining()
    if left is None:
        return wanted
    return budget(left) if wanted is None else min(wanted, budget(left))


def detached() -> Context:
    """Return a copy of the current context without the deadline, for work that goes on after the running call.

    `asyncio.create_task(work, context=deadline.detached())` keeps the trace and the caller.
    """
    context = copy_context()
    context.run(ends_at.set, None)
    return context
