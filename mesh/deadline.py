"""The deadline of the running call, and the shorter timeouts of outgoing calls.

Each hop keeps a little of its time, so that it can report what was too slow before its own caller times out.
"""

from __future__ import annotations

import time
from contextvars import Context, ContextVar, copy_context
from typing import Final

# Deadline of unary calls whose client sent none, in seconds.
DEFAULT: Final = 30.0

# Timeout of an outgoing call when nothing else limits it, in seconds.
OUTGOING: Final = 5.0

# A hop keeps this share of its time, and at most this many seconds.
_KEPT_SHARE: Final = 0.1
_KEPT_MOST: Final = 0.25

# The moment of the deadline by `time.monotonic`, None without one.
ends_at: ContextVar[float | None] = ContextVar("octopus_deadline", default=None)


def remaining() -> float | None:
    """Return the seconds until the running call's deadline, not below 0; None without a deadline."""
    end = ends_at.get()
    return None if end is None else max(0.0, end - time.monotonic())


def budget(given: float) -> float:
    """Return how many of the seconds may be used; the rest is kept for reporting a failure."""
    return max(0.0, given - min(_KEPT_MOST, given * _KEPT_SHARE))


def shrunk(wanted: float | None) -> float | None:
    """Return the timeout of an outgoing call: `wanted`, limited to less than the running call's remaining time."""
    left = remaining()
    if left is None:
        return wanted
    return budget(left) if wanted is None else min(wanted, budget(left))


def detached() -> Context:
    """Return a copy of the current context without the deadline, for work that continues after the running call.

    `asyncio.create_task(work, context=deadline.detached())` keeps the trace and the caller.
    """
    context = copy_context()
    context.run(ends_at.set, None)
    return context
