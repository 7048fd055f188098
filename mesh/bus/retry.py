"""What a consumer does after a handler failed: which errors are temporary, and how long to wait."""

from typing import Final, NamedTuple

import orjson
import tenacity
from octopus.errors.v1 import errors_pb2 as reasons

from mesh.bus.errors import Poison
from mesh.errors import refused_from

LONGEST_PAUSE_S: Final = 10.0
_PAUSES: Final = tenacity.wait_exponential_jitter(multiplier=0.1, max=LONGEST_PAUSE_S, jitter=0.02)
_PASSING: Final = frozenset({reasons.REASON_UNAVAILABLE, reasons.REASON_RATE_LIMITED, reasons.REASON_STORAGE_FULL})


class Judgement(NamedTuple):
    """`passing`: the failure is temporary, and the message is not its cause. `pause` in seconds."""

    passing: bool
    pause: float


def judge(error: Exception, failures: int) -> Judgement:
    """Return what to do about an error of a handler that has failed `failures` times."""
    if isinstance(error, Poison):
        return Judgement(passing=False, pause=0.0)
    refused = refused_from(error)
    return Judgement(refused.reason in _PASSING, max(pause(failures), refused.retry_after or 0.0))


def pause(failures: int) -> float:
    """Return how long to wait after the n-th failure: from 0.1 s, doubled each time, up to `LONGEST_PAUSE_S`."""
    state = tenacity.RetryCallState(tenacity.AsyncRetrying(), None, (), {})
    state.attempt_number = failures
    return _PAUSES(state)


def nak(seconds: float) -> bytes:
    """Return the answer that has a message redelivered after a pause."""
    return b"-NAK " + orjson.dumps({"delay": int(seconds * 1_000_000_000)})
