"""Limits on guessing passwords, counted in Valkey so that all instances count together.

Failures are counted for a name at an address, for an address across names, and for a name across addresses; the rules
are `domain.GuessLimit`. An attempt counts as a failure before it is judged, so that many guesses at once cannot slip
through, and is undone when the password was right. While Valkey is unreachable, each instance counts locally.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog
from redis.asyncio import Redis

from mesh.stores.errors import StoreError
from mesh.stores.keyring import Keyring
from mesh.telemetry.outage import Outage
from services.user import domain, metrics
from services.user.domain import GUESS_WINDOW, GuessLimit, LockedOut

_log = structlog.get_logger(__name__)

# Log-in does not wait longer for Valkey, in seconds.
_ANSWERS_WITHIN_S: Final = 0.5
# Names and addresses that one instance counts locally.
_MOST_COUNTED: Final = 10_000

# Each key is a hash of failures (`n`) and until when (`till`, ms) further attempts are refused. All keys are asked
# before one is changed: an attempt that is refused does not count. ARGV: the window, then for each key its limit:
# free failures, first delay, longest delay. All in ms. `domain.delay` is the same rule.
_ATTEMPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait = 0
for i = 1, #KEYS do
  wait = math.max(wait, tonumber(redis.call('HGET', KEYS[i], 'till') or '0') - now)
end
if wait > 0 then return wait end
for i = 1, #KEYS do
  local free, first, longest = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local n = redis.call('HINCRBY', KEYS[i], 'n', 1)
  if n > free then
    redis.call('HSET', KEYS[i], 'till', now + math.min(longest, first * 2 ^ math.min(n - free - 1, 30)))
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
return 0
"""

# The first key is forgotten; the others only lose the attempt that was no failure.
_SUCCESS: Final = """
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HINCRBY', KEYS[i], 'n', -1)
    redis.call('HDEL', KEYS[i], 'till')
  end
end
return 0
"""


class Attempts:
    """Refuse attempts that come too soon after failed ones."""

    def __init__(self, valkey: Redis, keyring: Keyring, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock in seconds for what is counted here while Valkey fails."""
        self._attempt = valkey.register_script(_ATTEMPT)
        self._success = valkey.register_script(_SUCCESS)
        self._keyring = keyring
        self._clock = clock
        # Failures and until when to wait, while Valkey fails; the oldest first.
        self._own: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._outage = Outage(
            _log, "log-in attempts are counted by this instance alone", "log-in attempts are counted in valkey again"
        )

    def fingerprint(self, tenant_id: str, name: str, address: str) -> bytes:
        """Return the keyed hash under which a name at an address is stored: it reveals neither without the key."""
        text = f"{tenant_id} {name} {domain.network_of(address)}".encode()
        return hmac.digest(self._keyring.derive("log-in address"), text, "sha256")

    async def begin(self, tenant_id: str, name: str, address: str, *, known: bool) -> None:
        """Count an attempt, or raise `LockedOut`; `known` when this name has logged in from there before."""
        limits = self._limits(tenant_id, name, address, known=known)
        window = int(GUESS_WINDOW.total_seconds() * 1000)
        arguments = [window, *(part for limit in limits.values() for part in limit.milliseconds())]
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                wait_ms = await self._attempt(keys=list(limits), args=arguments)
        except (StoreError, TimeoutError) as error:
            self._outage.failed(error)
            self._begin_here(next(iter(limits)), next(iter(limits.values())))
            return
        if self._outage.lasts:
            self._own.clear()
        self._outage.succeeded()
        if wait_ms:
            metrics.LOCKED_OUT.inc()
            raise LockedOut(float(wait_ms) / 1000)

    async def succeeded(self, tenant_id: str, name: str, address: str, *, known: bool) -> None:
        """Take the attempt back: it was no failure."""
        keys = list(self._limits(tenant_id, name, address, known=known))
        self._own.pop(keys[0], None)
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await self._success(keys=keys)
        except (StoreError, TimeoutError) as error:
            self._outage.failed(error)

    def _limits(self, tenant_id: str, name: str, address: str, *, known: bool) -> dict[str, GuessLimit]:
        """Return the limits that an attempt is subject to, by their keys; the narrowest first."""
        pair = f"user:guesses:{{{tenant_id}}}:{self.fingerprint(tenant_id, name, address).hex()[:32]}"
        if known:
            # Whoever has logged in from there before is not kept out by what others do elsewhere.
            return {pair: domain.GUESSES_AT_KNOWN_ADDRESS}
        where = self.fingerprint(tenant_id, "", address).hex()[:32]
        who = hashlib.sha256(name.encode()).hexdigest()[:32]
        return {
            pair: domain.GUESSES_AT_ADDRESS,
            f"user:guesses:{{{tenant_id}}}:address:{where}": domain.GUESSES_OF_ADDRESS,
            f"user:guesses:{{{tenant_id}}}:name:{who}": domain.GUESSES_OF_NAME,
        }

    def _begin_here(self, key: str, limit: GuessLimit) -> None:
        now = self._clock()
        failures, till = self._own.pop(key, (0, 0.0))
        if till > now:
            self._own[key] = (failures, till)
            metrics.LOCKED_OUT.inc()
            raise LockedOut(till - now)
        while len(self._own) >= _MOST_COUNTED:
            self._own.popitem(last=False)
        self._own[key] = (failures + 1, now + domain.delay(failures + 1, limit))
