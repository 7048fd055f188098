"""Counts attempts to log in, in Valkey, so that all instances count together."""

from __future__ import annotations

import hashlib
from typing import Final

from redis.asyncio import Redis

from services.user import metrics
from services.user.domain import LOCK_OUT_FAILURES, LOCK_OUT_WINDOW, LockedOut

# An attempt counts before it is judged, so that many guesses at once cannot slip through. The first key is a sorted
# set of attempts by time. One attempt too many locks the name by the second key, and does not count; the set starts
# empty when the lock ends.
_ATTEMPT: Final = """
local locked = redis.call('PTTL', KEYS[2])
if locked > 0 then return locked end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
  return tonumber(ARGV[1])
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 0
"""


class LockOut:
    """After 10 failures in 15 minutes a name is refused for 15 minutes, whether or not somebody has that name."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._attempt = valkey.register_script(_ATTEMPT)

    async def attempt(self, tenant_id: str, name: str, attempt_id: int) -> None:
        """Count an attempt, or raise `LockedOut`; `attempt_id` is unique for each attempt."""
        window_ms = int(LOCK_OUT_WINDOW.total_seconds() * 1000)
        wait_ms = await self._attempt(keys=_keys(tenant_id, name), args=[window_ms, LOCK_OUT_FAILURES, attempt_id])
        if wait_ms:
            metrics.LOCKED_OUT.inc()
            raise LockedOut(wait_ms / 1000)

    async def succeeded(self, tenant_id: str, name: str) -> None:
        """Forget the attempts: this one was right."""
        await self._valkey.delete(_keys(tenant_id, name)[0])


def _keys(tenant_id: str, name: str) -> list[str]:
    # A digest keeps people's names out of Valkey, and the braces keep both keys on one node of a cluster.
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return [f"user:attempts:{{{tenant_id}:{digest}}}", f"user:locked:{{{tenant_id}:{digest}}}"]
