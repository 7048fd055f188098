"""How a consumer goes on after a handler failed: which errors pass by themselves, and how long to wait."""

import random
from typing import Final, NamedTuple

import orjson
from octopus.errors.v1 import errors_pb2 as reasons

from mesh.bus.errors import Poison
from mesh.errors import refused_from

LONGEST_PAUSE_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.1
_PASSING: Final = frozenset({reasons.REASON_UNAVAILABLE, reasons.REASON_RATE_LIMITED})


class Judgement(NamedTuple):
    """`passing`: something that the handler needs is away, and the message is not to blame. `pause` in seconds."""

    passing: bool
    pause: float


def judge(error: Exception, failures: int) -> Judgement:
    """What to do about the error of a handler that has failed so often."""
    if isinstance(error, Poison):
        return Judgement(passing=False, pause=0.0)
    refused = refused_from(error)
    return Judgement(refused.reason in _PASSING, max(pause(failures), refused.retry_after or 0.0))


def pause(count: int) -> float:
    """Grows from a tenth of a second by doubling to ten seconds, with a tenth of chance in it."""
    nominal: float = min(_FIRST_PAUSE_S * 2 ** min(count - 1, 10), LONGEST_PAUSE_S)
    return nominal * random.uniform(0.9, 1.1)  # noqa: S311  # spreads retries, guards nothing


def nak(seconds: float) -> bytes:
    """The answer that gives a message back, to be delivered again after a pause."""
    return b"-NAK " + orjson.dumps({"delay": int(seconds * 1_000_000_000)})
