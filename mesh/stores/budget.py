"""How long a call to a store may take: less than the RPC it serves, so that the handler can still answer.

A component that is frozen, not dead, closes no connection and answers nothing. Every wait for one therefore ends by
the caller's clock, and ends early enough to report what happened.
"""

from __future__ import annotations

from typing import Final

from mesh import deadline

# Kept back of the running call's time to tell the caller what happened, in seconds.
RESERVE: Final = 0.2
# Asked for even when less is left: a store that is well answers within this, in seconds.
_LEAST: Final = 0.05


def seconds(most: float) -> float:
    """Return how long a call to a store may take: at most `most`, less when the running RPC ends earlier."""
    left = deadline.remaining()
    return most if left is None else max(_LEAST, min(most, left - RESERVE))
