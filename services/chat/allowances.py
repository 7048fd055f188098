"""How much each person may still send here."""

from __future__ import annotations

import time

from mesh.rpc.principal import Principal
from services.chat.domain import Allowance

# Allowances are looked through for full ones, which can be forgotten, when this many are kept.
_MANY = 10_000


class Allowances:
    """One allowance for each person: so many frames at once, refilled with so many a second.

    Kept on each instance: affinity sends all streams of one person to the same one.
    """

    def __init__(self, *, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._of: dict[tuple[str, int], Allowance] = {}

    def spend(self, principal: Principal) -> None:
        """Take one frame out of the person's allowance. Raises `TooFast`."""
        now = time.monotonic()
        key = (principal.tenant_id, principal.user_id)
        allowance = self._of.get(key)
        if allowance is None:
            if len(self._of) >= _MANY:
                self._of = {known: each for known, each in self._of.items() if not each.full_at(now)}
            allowance = self._of[key] = Allowance(self._burst, self._per_second)
        allowance.spend(now)
