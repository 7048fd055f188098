"""Rate limit on new visitors by address and shop, counted in Valkey for all instances together."""

from __future__ import annotations

import asyncio
import hmac
from typing import Final

import structlog
from redis.asyncio import Redis

from mesh.stores.errors import StoreError
from mesh.stores.keyring import Keyring
from mesh.telemetry.outage import Outage
from services.user import domain, metrics
from services.user.domain import TooManyVisitors

_log = structlog.get_logger(__name__)

# A visitor does not wait longer for Valkey, in seconds.
_ANSWERS_WITHIN_S: Final = 0.5

# A leaky bucket for each key: `SET key <when it will be empty>`. ARGV: for each key how many a minute; as many may come
# at once. Returns how long to wait, in ms; nothing is counted then.
_VISIT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local empty, wait = {}, 0
for i = 1, #KEYS do
  local each = 60000 / tonumber(ARGV[i])
  empty[i] = math.max(now, tonumber(redis.call('GET', KEYS[i]) or '0')) + each
  wait = math.max(wait, empty[i] - now - 60000)
end
if wait > 0 then return math.ceil(wait) end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], string.format('%.3f', empty[i]), 'PX', math.ceil(empty[i] - now))
end
return 0
"""


class VisitorRate:
    """Count new visitors. While Valkey is unreachable none are refused here; the edge's limit still applies."""

    def __init__(self, valkey: Redis, keyring: Keyring, *, per_address: int, per_shop: int) -> None:
        """Take how many visitors a minute may come from one address, and to one shop."""
        self._visit = valkey.register_script(_VISIT)
        self._keyring = keyring
        self._numbers = [per_address, per_shop]
        self._outage = Outage(_log, "visitors not counted", "visitors counted again")

    async def count(self, tenant_id: str, address: str) -> None:
        """Count a new visitor, or raise `TooManyVisitors`."""
        text = f"{tenant_id} {domain.network_of(address)}".encode()
        where = hmac.digest(self._keyring.derive("visitor address"), text, "sha256").hex()[:32]
        keys = [f"user:visits:{{{tenant_id}}}:{where}", f"user:visits:{{{tenant_id}}}"]
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                wait_ms = await self._visit(keys=keys, args=self._numbers)
        except (StoreError, TimeoutError) as error:
            self._outage.failed(error)
            return
        self._outage.succeeded()
        if wait_ms:
            metrics.VISITORS_REFUSED.inc()
            raise TooManyVisitors(float(wait_ms) / 1000)
