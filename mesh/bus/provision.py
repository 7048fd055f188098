"""Provision NATS: the control process creates streams, buckets, and the durable consumers of the manifests.

No other member may: a stream can copy messages anywhere, and a consumer can send them anywhere, past all permissions.
Consumers that are no longer in a manifest are deleted, see `mesh.bus.retire`.
Everything is checked every few seconds, because a server may have restarted without its data.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from mesh.bus.bounds import Bounds
from mesh.bus.client import Client
from mesh.bus.retire import CONTROL, MADE_BY, Retired
from mesh.bus.streams import BUCKETS, STREAMS
from mesh.manifest import manifests
from mesh.retrying import retrying
from mesh.telemetry.outage import Outage

_log = structlog.get_logger(__name__)

# Seconds after which the server redelivers a message that is neither answered nor reported as in progress. It is
# reported three times as often, so slow handlers keep their messages, and those of a killed process are soon
# redelivered.
ACK_WAIT_S: Final = 6.0
# How many messages all instances of a service may hold together.
_MOST_PENDING: Final = 10_000
_CHECK_EVERY_S: Final = 5.0
_RETRY_S: Final = 0.25


@dataclass(frozen=True)
class Durable:
    """The durable consumer of one program in one stream, named like the program."""

    stream: str
    name: str
    subjects: tuple[str, ...]

    def config(self) -> api.ConsumerConfig:
        """Return the consumer's configuration."""
        return api.ConsumerConfig(
            name=self.name,
            durable_name=self.name,
            filter_subjects=list(self.subjects),
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            # Counted by the consumer: the server would drop the message without a dead letter.
            max_deliver=-1,
            max_ack_pending=_MOST_PENDING,
            metadata={MADE_BY: CONTROL},
        )


def durables() -> tuple[Durable, ...]:
    """Return the consumers that the manifests define."""
    return tuple(
        Durable(stream, program.name, subjects)
        for program in manifests().values()
        for stream, subjects in program.bus.reads.items()
        if subjects
    )


async def provision(client: Client, bounds: Bounds, replicas: int = 1, *, retired: Retired | None = None) -> None:
    """Create what is missing, update what differs, make room, and delete what is `retired`. Raise nats-py's errors.

    Each stream is stored on `replicas` servers of the cluster: with three, one may be lost without losing
    acknowledged messages.
    """
    jetstream = client.jetstream()
    for stream in STREAMS:
        config = stream.config(await bounds.of(jetstream, stream))
        await _stream(jetstream, replace(config, num_replicas=replicas))
    for durable in durables():
        await _consumer(jetstream, durable)
    for stream in STREAMS:
        named = [each.name for each in durables() if each.stream == stream.name]
        if not stream.discards:
            await bounds.make_room(jetstream, stream.name, named)
        if retired is not None:
            await retired.delete(jetstream, stream.name, named)
    # Members wait for this bucket, so it is created last.
    for bucket in reversed(BUCKETS):
        await _stream(jetstream, replace(bucket.config(), num_replicas=replicas))


async def keep_provisioned(
    client: Client, bounds: Bounds, replicas: int, back: asyncio.Event, done: asyncio.Event
) -> None:
    """Provision at once, whenever `back` is set, and every few seconds, until cancelled; set `done` each time."""
    retired = Retired()
    outage = Outage(_log, "streams not provisioned, retrying", "streams provisioned again")
    retry = retrying(outage, NatsError, OSError, first=_RETRY_S, longest=_RETRY_S)

    async def once() -> None:
        back.clear()
        await provision(client, bounds, replicas, retired=retired)

    while True:
        await retry(once)
        done.set()
        try:
            async with asyncio.timeout(_CHECK_EVERY_S):
                await back.wait()
        except TimeoutError:
            continue


async def _stream(jetstream: JetStreamContext, config: api.StreamConfig) -> None:
    name = str(config.name)
    try:
        existing = (await jetstream.stream_info(name)).config
    except NotFoundError:
        existing = None
    if existing is not None and existing.storage != config.storage:
        # NATS cannot move a stream; only those whose messages may be lost ever change their storage.
        await jetstream.delete_stream(name)
        existing = None
    if existing is None:
        try:
            await jetstream.add_stream(config)
        except APIError as refused:
            # Another control process, possibly an older version, may have created it between the two calls.
            try:
                existing = (await jetstream.stream_info(name)).config
            except NotFoundError:
                raise refused from None
        else:
            _log.info("stream created", stream=name)
            return
    if differs(existing, config):
        await jetstream.update_stream(config)
        _log.info("stream updated", stream=name)


async def _consumer(jetstream: JetStreamContext, durable: Durable) -> None:
    config = durable.config()
    try:
        existing = (await jetstream.consumer_info(durable.stream, durable.name)).config
    except NotFoundError:
        existing = None
    if existing is not None and not differs(existing, config):
        return
    await jetstream.add_consumer(durable.stream, config)
    _log.info("consumer provisioned", stream=durable.stream, durable=durable.name)


def differs(actual: api.StreamConfig | api.ConsumerConfig, wanted: api.StreamConfig | api.ConsumerConfig) -> bool:
    """Return whether a configuration lacks what is wanted; values that the server adds are ignored."""
    present = actual.as_dict()
    expected = wanted.as_dict()
    expected.pop("metadata", None)
    # The server adds metadata of its own.
    if (wanted.metadata or {}).items() - (actual.metadata or {}).items():
        return True
    if present.get("filter_subject"):
        # The server returns a single one in this field.
        present["filter_subjects"] = [present["filter_subject"]]
    return any(present.get(key) != value for key, value in expected.items() if value not in (None, 0, -1, False, ""))
