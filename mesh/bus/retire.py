"""Delete consumers of programs that were removed: those that are no longer in a manifest.

During an upgrade an old version of a program, or of the control process, may run beside the new one, and the new one
may be rolled back. So a consumer is deleted only when all of this holds:

- the control process created it; consumers that an operator created stay;
- it was created an hour ago or earlier: an older control process does not know what a newer one has just created;
- for a minute, no client has pulled from it, and no message that it delivered waits for an acknowledgement;
- the message that it delivered last is no longer in the stream: nothing is lost with it, and if it is created again, it
  gets the same messages. That is so when it was idle for as long as the stream keeps messages.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

_log = structlog.get_logger(__name__)

# The mark of a consumer that the control process created.
MADE_BY: Final = "octopus.made-by"
CONTROL: Final = "control"


class Retired:
    """The consumers that are in no manifest, as known to one control process."""

    def __init__(self, *, made_before_s: float = 3600.0, unused_for_s: float = 60.0) -> None:
        """Delete consumers created `made_before_s` seconds ago and seen unused for `unused_for_s` seconds."""
        self._made_before = timedelta(seconds=made_before_s)
        self._unused_for = unused_for_s
        # Since when each has been seen unused.
        self._unused: dict[tuple[str, str], float] = {}

    async def delete(self, jetstream: JetStreamContext, stream: str, named: Collection[str]) -> None:
        """Delete those of a stream that may be deleted; `named` are those of the manifests. Raise nats-py's errors."""
        others = [each for each in await _consumers(jetstream, stream) if each.name not in named]
        if not others:
            return
        state = (await jetstream.stream_info(stream)).state
        # An empty stream has deleted everything.
        first_seq = state.first_seq if state.messages else state.last_seq + 1
        for each in others:
            key = (stream, each.name)
            if not _is_ours(each) or not self._may_go(each, first_seq):
                self._unused.pop(key, None)
                continue
            now = time.monotonic()
            if now - self._unused.setdefault(key, now) < self._unused_for:
                continue
            try:
                await jetstream.delete_consumer(stream, each.name)
            except NotFoundError:
                # Another control process has deleted it.
                pass
            else:
                _log.info("retired consumer deleted", stream=stream, durable=each.name)
            del self._unused[key]

    def _may_go(self, consumer: api.ConsumerInfo, first_seq: int) -> bool:
        delivered = consumer.delivered.stream_seq if consumer.delivered else 0
        return (
            not consumer.num_waiting
            and not consumer.num_ack_pending
            and (delivered or 0) < first_seq
            and consumer.created <= datetime.now(UTC) - self._made_before
        )


def _is_ours(consumer: api.ConsumerInfo) -> bool:
    config = consumer.config
    if config.metadata and MADE_BY in config.metadata:
        return config.metadata[MADE_BY] == CONTROL
    # As they were created before there was a mark.
    return (
        config.durable_name == consumer.name
        and config.ack_policy == api.AckPolicy.EXPLICIT
        and (config.ack_wait, config.max_ack_pending, config.deliver_subject) == (6.0, 10_000, None)
    )


async def _consumers(jetstream: JetStreamContext, stream: str) -> list[api.ConsumerInfo]:
    found: list[api.ConsumerInfo] = []
    while page := await jetstream.consumers_info(stream, offset=len(found)):
        found += page
    return found
