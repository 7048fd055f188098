"""How far each person has got in a session: kept in Valkey for as long as the log lasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mesh.stores.valkey import Valkey

# The log's own lifetime (mesh/bus/streams.py); marks of a session that is no longer in it are of no use.
_LIFETIME_S = 3 * 24 * 3600

# Marks only grow: two devices of one person may report in any order.
_ADVANCE = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
local delivered, read = 0, 0
if old then
  local sep = string.find(old, ',', 1, true)
  delivered, read = tonumber(string.sub(old, 1, sep - 1)), tonumber(string.sub(old, sep + 1))
end
delivered = math.max(delivered, tonumber(ARGV[2]), tonumber(ARGV[3]))
read = math.max(read, tonumber(ARGV[3]))
local new = string.format('%d,%d', delivered, read)
if new ~= old then
  redis.call('HSET', KEYS[1], ARGV[1], new)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return {delivered, read}
"""


class Mark(NamedTuple):
    """Positions in a session's log up to which a person has received and has read."""

    delivered_seq: int
    read_seq: int


class Receipts:
    """The marks of all participants."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._advance = valkey.register_script(_ADVANCE)

    async def advance(self, tenant_id: str, session_id: int, user_id: int, mark: Mark) -> Mark:
        """Move a person's marks forward and return where they are now; a read message counts as received."""
        delivered, read = await self._advance(
            keys=[_key(tenant_id, session_id)], args=[user_id, mark.delivered_seq, mark.read_seq, _LIFETIME_S]
        )
        return Mark(int(delivered), int(read))

    async def of(self, tenant_id: str, session_id: int) -> Mapping[int, Mark]:
        """Return the marks of a session by user id."""
        stored: Mapping[str, str] = await self._valkey.hgetall(_key(tenant_id, session_id))  # type: ignore[assignment]  # decoded
        return {int(user): _parse(value) for user, value in stored.items()}


def _key(tenant_id: str, session_id: int) -> str:
    return f"chat:{tenant_id}:receipts:{session_id}"


def _parse(value: str) -> Mark:
    delivered, _, read = value.partition(",")
    return Mark(int(delivered), int(read))
