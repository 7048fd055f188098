"""Rotate the signing keys, and keep their public halves published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.bus import BusError, KeyValue
from mesh.stores.errors import StoreError
from mesh.stores.postgres import Database
from mesh.telemetry.outage import Outage
from services.user import domain
from services.user.tokens import access as access_tokens
from services.user.tokens.access import SigningKey
from services.user.tokens.signing_key_store import KeyStore

_log = structlog.get_logger(__name__)

# How soon another instance's rotation, or the loss of the published set, is noticed; well below `domain.KEY_LEAD`.
CHECK_SECONDS = 5.0

BUCKET = "keys"
KEY = "jwks"


class SigningKeys:
    """The keys of access tokens: shared by all instances through the database, published in NATS KV.

    A new key is made every `rotate_after`, signs a minute after it is published, and stays published until the last
    token it signed has ended.
    """

    def __init__(
        self,
        *,
        db: Database,
        store: KeyStore,
        bucket: KeyValue,
        rotate_after: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._store = store
        self._bucket = bucket
        self._rotate_after = rotate_after
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._wake = asyncio.Event()

    def current(self) -> SigningKey:
        """Return the key that signs now. `turn` must have succeeded once."""
        active_from = {kid: key.active_from for kid, key in self._keys.items()}
        kid = domain.signing_key(active_from, self._clock())
        if kid is None:
            raise LookupError("there is no signing key yet; the service turns the keys before it serves")
        return self._keys[kid]

    def key_set(self) -> str:
        """Return the JWK Set that verifies all living tokens."""
        return access_tokens.key_set(self._keys.values())

    async def turn(self) -> None:
        """Read the keys, rotate when it is time, and publish the set when the bucket has another one."""
        self._keys = {key.kid: key for key in await self._rotated()}
        wanted = self.key_set().encode()
        published = await self._bucket.get(KEY)
        if published is None or published.value != wanted:
            await self._bucket.put(KEY, wanted)
            _log.info("key set published", keys=len(self._keys))

    async def run(self) -> None:
        """Call `turn` every few seconds, and at once when woken; the known keys sign while PostgreSQL or NATS fails."""
        outage = Outage(_log, "signing keys cannot be checked, retrying", "signing keys are checked again")
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.turn()
            except (StoreError, BusError) as error:
                outage.failed(error)
            else:
                outage.succeeded()

    def wake(self) -> None:
        """Turn soon: NATS came back, perhaps without its data."""
        self._wake.set()

    async def _rotated(self) -> list[SigningKey]:
        async with self._db.platform() as conn:
            await self._store.lock(conn)
            keys = await self._store.all(conn)
            now = self._clock()
            active_from = {key.kid: key.active_from for key in keys}
            activation = domain.next_activation(active_from, now, self._rotate_after)
            if activation is not None:
                key = access_tokens.new_key(now, activation)
                await self._store.add(conn, key, now)
                keys.append(key)
                _log.info("signing key made", kid=key.kid)
            ended = domain.ended_keys(active_from, now)
            if ended:
                await self._store.delete(conn, ended)
                _log.info("signing keys deleted", kids=sorted(ended))
            return [key for key in keys if key.kid not in ended]
