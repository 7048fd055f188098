"""Cancel tasks reliably on Python 3.11.

Clients use `asyncio.wait_for`, which on Python 3.11 swallows a cancellation that arrives together with the answer:
redis-py loses half of them in a task that does nothing but call Valkey, psycopg some. The task would continue.
"""

import asyncio


class cancellable:  # noqa: N801  # used like a function
    """`with cancellable():` ends the task after the block when it was cancelled since this was made."""

    def __init__(self) -> None:
        self._before = _cancels()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            end_if_cancelled(self._before)


def end_if_cancelled(before: int = 0) -> None:
    """Raise CancelledError when the task was cancelled more than `before` times."""
    if _cancels() > before:
        raise asyncio.CancelledError


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0
