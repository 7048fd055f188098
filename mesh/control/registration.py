"""How an instance makes itself known: an entry in the NATS KV bucket `registry`, renewed every second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

import nats.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError
from nats.js.kv import KeyValue

from octopus.mesh.v1 import registry_pb2

REGISTRY: Final = "registry"
TRAFFIC: Final = "traffic"
KEYS: Final = "keys"

RENEW_SECONDS: Final = 1.0

# Watchers forget an instance after three missed renewals. The bucket forgets later: its entries are what a control plane
# that starts anew begins with, and they must outlive a restart of NATS.
_BUCKET_TTL_SECONDS: Final = 15.0

# A certificate is replaced at half its life of an hour, so looking twice a minute is enough to show the right end.
_CERTIFICATE_EVERY: Final = 30

_PUT_TIMEOUT_SECONDS: Final = 3.0

_log = structlog.get_logger(__name__)


async def bucket(jetstream: JetStreamContext, name: str) -> KeyValue:
    """Opens a KV bucket of the mesh, and makes it first where it is missing."""
    try:
        return await jetstream.key_value(name)
    except NotFoundError:
        ttl = _BUCKET_TTL_SECONDS if name == REGISTRY else None
        return await jetstream.create_key_value(KeyValueConfig(bucket=name, history=1, ttl=ttl))


class Registration:
    """One instance's entry in the registry.

    `start` writes it and keeps it fresh, `drain` says that no more calls are wanted, `stop` takes it away. A NATS server
    that is away makes renewals fail, which is logged once, and they go on when it is back.
    """

    def __init__(
        self,
        jetstream: JetStreamContext,
        instance: registry_pb2.Instance,
        *,
        certificate_expires_at: Callable[[], datetime] | None = None,
    ) -> None:
        """Takes the entry to write; `certificate_expires_at` is asked now and then, as certificates rotate."""
        self._jetstream = jetstream
        self._instance = registry_pb2.Instance()
        self._instance.CopyFrom(instance)
        if not self._instance.weight:
            self._instance.weight = 100
        if not self._instance.HasField("started_at"):
            self._instance.started_at.GetCurrentTime()
        self._certificate_expires_at = certificate_expires_at
        self._bucket: KeyValue | None = None
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self.key: Final = f"{instance.service}.{instance.instance_id}"

    async def start(self) -> None:
        """Makes the instance known as serving and returns when NATS has stored it. Raises when NATS refuses."""
        self._instance.health = registry_pb2.HEALTH_SERVING
        self._look_at_certificate()
        await self._put()
        self._task = asyncio.create_task(self._renew(), name=f"registration {self.key}")
        _log.info("instance registered", instance=self.key, version=self._instance.version)

    async def drain(self) -> None:
        """Says that the instance takes no more calls; it stays listed until `stop`."""
        self._instance.health = registry_pb2.HEALTH_DRAINING
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await self._put()

    async def stop(self) -> None:
        """Takes the instance off the list. When NATS is away it is forgotten 3 s later anyway."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._bucket is not None:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._bucket.delete(self.key)

    async def _renew(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            count += 1
            if count % _CERTIFICATE_EVERY == 0:
                self._look_at_certificate()
            try:
                await self._put()
            except (nats.errors.Error, TimeoutError) as error:
                if not self._failing:
                    _log.warning("registration not renewed, trying on", instance=self.key, error=repr(error))
                self._failing = True
            else:
                if self._failing:
                    _log.info("registration renewed again", instance=self.key)
                self._failing = False

    async def _put(self) -> None:
        async with asyncio.timeout(_PUT_TIMEOUT_SECONDS):
            if self._bucket is None:
                self._bucket = await bucket(self._jetstream, REGISTRY)
            try:
                await self._bucket.put(self.key, self._instance.SerializeToString())
            except (NoStreamResponseError, APIError):
                # The bucket is gone, as after NATS lost its disk: the next renewal makes it again.
                self._bucket = None
                raise

    def _look_at_certificate(self) -> None:
        if self._certificate_expires_at is not None:
            self._instance.certificate_expires_at.FromDatetime(self._certificate_expires_at())
