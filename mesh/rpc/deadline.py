"""How much time the running call still has; outgoing calls never ask for more."""

from __future__ import annotations

import time
from contextvars import Context, ContextVar, copy_context
from typing import Final

# Unary calls whose client sent no deadline get this much, in seconds.
DEFAULT: Final = 30.0

# What an outgoing call asks for when nothing else limits it, in seconds.
OUTGOING: Final = 5.0

# The moment it ends by `time.monotonic`, None where nothing limits the call.
ends_at: ContextVar[float | None] = ContextVar("octopus_deadline", default=None)


def remaining() -> float | None:
    """Seconds that the running call still has, not below 0; None without a deadline."""
    end = ends_at.get()
    return None if end is None else max(0.0, end - time.monotonic())


def shrunk(wanted: float | None) -> float | None:
    """The timeout for an outgoing call: what is wanted, but never longer than what the running call still has."""
    left = remaining()
    if left is None:
        return wanted
    return left if wanted is None else min(wanted, left)


def detached() -> Context:
    """Return a copy of the current context without the deadline, for work that goes on after the running call.

    `asyncio.create_task(work, context=deadline.detached())` keeps the trace and the caller.
    """
    context = copy_context()
    context.run(ends_at.set, None)
    return context
