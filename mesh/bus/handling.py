"""Run a handler with a deadline that holds even when the handler ignores its cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, Final

from mesh.bus.errors import BusError

# How long a handler that was cancelled may take to end, in seconds.
_GRACE_S: Final = 1.0


class HandlerTimeout(BusError):
    """A handler did not end before its deadline, and was cancelled."""

    reason: ClassVar[str] = "DEADLINE_EXCEEDED"


class HandlerStuck(HandlerTimeout):
    """A handler did not end before its deadline, and still runs although it was cancelled.

    `task` is the handler; its end can be waited for.
    """

    def __init__(self, description: str, task: "asyncio.Task[None]") -> None:
        super().__init__(description)
        self.task = task


async def bounded(work: Coroutine[Any, Any, None], *, seconds: float) -> None:
    """Run a handler until it ends.

    Raise what it raises, HandlerTimeout when it was cancelled after `seconds`, and HandlerStuck when it ignores that.
    """
    task = asyncio.ensure_future(work)
    try:
        if not await _ended(task, seconds):
            task.cancel()
            if not await _ended(task, _GRACE_S):
                raise HandlerStuck(f"the handler still runs although it was cancelled after {seconds} s", task)
    finally:
        # When the caller is cancelled, the handler is too.
        task.cancel()
    if task.cancelled():
        raise HandlerTimeout(f"the handler did not end within {seconds} s")
    task.result()


async def _ended(task: "asyncio.Task[None]", seconds: float) -> bool:
    done, _ = await asyncio.wait((task,), timeout=seconds)
    return bool(done)
