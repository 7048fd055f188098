"""Retry what may fail for a while, with one log line when the failures begin and one when they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import tenacity

from mesh.telemetry.outage import Outage

FIRST_S: Final = 0.2
LONGEST_S: Final = 5.0


def retrying(
    outage: Outage,
    *errors: type[BaseException],
    but: tuple[type[BaseException], ...] = (),
    first: float = FIRST_S,
    longest: float = LONGEST_S,
    ends: Callable[[], bool] = lambda: False,
) -> tenacity.AsyncRetrying:
    """Return a retrier for `await retry(function, *args)`: it retries `errors`, except those that are also in `but`.

    Pauses double from `first` to `longest`, in seconds, and begin anew with each call. After a failed attempt, the
    call returns None when `ends` returns true. All other errors are raised.
    """

    def again(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is None:
            outage.succeeded()
        elif isinstance(error, errors) and not isinstance(error, but):
            outage.failed(error)
            return True
        return False

    return tenacity.AsyncRetrying(
        retry=again,
        wait=tenacity.wait_exponential(multiplier=first, max=longest),
        stop=lambda _: ends(),
        retry_error_callback=lambda _: None,
    )
