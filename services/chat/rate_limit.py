"""How much each person may still send on this instance."""

from __future__ import annotations

import time

from mesh.rpc.principal import Principal
from services.chat.domain import Allowance

# Full buckets, which can be forgotten, are dropped when this many are kept.
_MANY = 10_000


class RateLimit:
    """One token bucket for each person: `burst` frames at once, refilled with `per_second`.

    Kept on each instance: affinity sends all streams of one person to the same one.
    """

    def __init__(self, *, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: dict[tuple[str, int], Allowance] = {}

    def spend(self, principal: Principal) -> None:
        """Take one frame out of the person's bucket. Raises `TooFast`."""
        now = time.monotonic()
        key = (principal.tenant_id, principal.user_id)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _MANY:
                self._buckets = {known: each for known, each in self._buckets.items() if not each.full_at(now)}
            bucket = self._buckets[key] = Allowance(self._burst, self._per_second)
        bucket.spend(now)
