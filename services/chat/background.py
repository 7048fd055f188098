"""Background tasks of the streams; a failing task is logged and handled by its `on_failure`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class Background:
    """The running background tasks of one chat instance."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, None], *, name: str, on_failure: Callable[[], None] | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine as a task. An error is logged in full, then `on_failure` is called; a cancellation is not."""

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                return
            _log.error("background task failed", task=name, exc_info=error)
            if on_failure is not None:
                on_failure()

        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(ended)
        return task
