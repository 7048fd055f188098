"""How many WebSockets one client address may open: a token bucket for each."""

from __future__ import annotations

from typing import Final

# Addresses that are remembered. Above that those are forgotten whose bucket is full again.
_MOST_ADDRESSES: Final = 20_000


class RateLimit:
    """Counts by address. Times are seconds of any monotonic clock."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        # What is left, and when that was.
        self._left: dict[bytes, tuple[float, float]] = {}
        self._clean_at = _MOST_ADDRESSES

    @property
    def remembered(self) -> int:
        """How many addresses are remembered."""
        return len(self._left)

    def spend(self, network: bytes, now: float) -> bool:
        """Take one out of an address's bucket; False when it is empty."""
        left, at = self._left.get(network, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_second)
        self._left[network] = (max(0.0, left - 1), now)
        if len(self._left) >= self._clean_at:
            self._clean(now)
        return left >= 1

    def _clean(self, now: float) -> None:
        self._left = {
            network: (left, at)
            for network, (left, at) in self._left.items()
            if left + (now - at) * self._per_second < self._most
        }
        # Not at every turn while most are in use.
        self._clean_at = max(_MOST_ADDRESSES, 2 * len(self._left))
