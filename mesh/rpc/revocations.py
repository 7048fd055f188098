"""Revoked tokens, as published by the user service.

A revocation has a user and the lowest token generation that is still valid. It is kept until all older tokens have
expired, by this process's clock: a bus that lost its data does not undo a revocation.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import structlog
from google.protobuf.message import DecodeError
from octopus.errors.v1 import errors_pb2
from octopus.user.v1 import user_events_pb2

from mesh.bus.streams import REVOCATION_S
from mesh.errors import Refused

_log = structlog.get_logger(__name__)

# Handlers can end a stream cleanly first; after this many seconds a revoked caller's stream is cut.
_GOODBYE_S: Final = 1.0

Subject: TypeAlias = tuple[str, int]
"""Shop and user id."""

Listener: TypeAlias = Callable[[str, int, int, Refused], None]
"""Called with shop, user id, the lowest generation that is still good, and the refusal of older ones."""


class Revocations:
    """The revocations in force, and the open streams that they end."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # In the order in which they came, so that the oldest is the first to be forgotten.
        self._revoked: dict[Subject, user_events_pb2.Revocation] = {}
        self._streams: dict[Subject, set[tuple[int, asyncio.Timeout]]] = defaultdict(set)
        self._listeners: list[Listener] = []
        # Whether everything that was published before has arrived. Until then all tokens are refused.
        self.known = True

    def listen(self, listener: Listener) -> None:
        """Call `listener` at each revocation from now on, so that it can end streams cleanly."""
        self._listeners.append(listener)

    def check(self, tenant_id: str, user_id: int, generation: int) -> None:
        """Check a token of this generation.

        Raise `Refused`: TOKEN_REVOKED or DISABLED, or UNAVAILABLE until the revocations have arrived.
        """
        if not self.known:
            raise Refused(
                errors_pb2.REASON_UNAVAILABLE,
                "it is not known yet which tokens were revoked; try again",
                retry_after=1.0,
            )
        revoked = self._revoked.get((tenant_id, user_id))
        if revoked is not None and generation < revoked.generation:
            raise _refusal(revoked)

    def take(self, key: str, value: bytes | None) -> None:
        """Apply the bucket's entry of one user, `<tenant>.<user id>`. A deleted entry (None) changes nothing."""
        tenant_id, _, user = key.rpartition(".")
        if not user.isdecimal():
            _log.error("revocation not understood", error="the key is not <tenant>.<user id>")
            return
        subject = (tenant_id, int(user))
        self._forget_old()
        if value is None:
            return
        try:
            revoked = user_events_pb2.Revocation.FromString(value)
        except DecodeError:
            _log.error("revocation not understood", tenant=tenant_id, user_id=int(user), error="no Revocation")
            return
        before = self._revoked.get(subject)
        if before is not None and before.generation >= revoked.generation:
            return
        self._revoked.pop(subject, None)
        self._revoked[subject] = revoked
        refused = _refusal(revoked)
        _log.info("tokens revoked", tenant=tenant_id, user_id=int(user), reason=refused.reason_name)
        for listener in self._listeners:
            listener(tenant_id, int(user), revoked.generation, refused)
        ends_at = asyncio.get_running_loop().time() + _GOODBYE_S
        for generation, limit in self._streams.get(subject, ()):
            if generation < revoked.generation:
                limit.reschedule(ends_at)

    def _forget_old(self) -> None:
        before = self._clock() - REVOCATION_S
        while self._revoked:
            oldest = next(iter(self._revoked))
            if self._revoked[oldest].revoked_at.seconds >= before:
                return
            del self._revoked[oldest]

    @contextmanager
    def holding(self, tenant_id: str, user_id: int, generation: int, limit: asyncio.Timeout) -> Iterator[None]:
        """Have `limit` expire when the token that a stream was opened with is revoked."""
        subject = (tenant_id, user_id)
        entry = (generation, limit)
        self._streams[subject].add(entry)
        try:
            yield
        finally:
            held = self._streams[subject]
            held.discard(entry)
            if not held:
                del self._streams[subject]


def _refusal(revoked: user_events_pb2.Revocation) -> Refused:
    if revoked.cause == user_events_pb2.LOG_OUT_CAUSE_DISABLED:
        return Refused(errors_pb2.REASON_DISABLED, "the user is disabled; ask the shop's administrator")
    if revoked.cause == user_events_pb2.LOG_OUT_CAUSE_MERGED:
        return Refused(errors_pb2.REASON_TOKEN_REVOKED, "this visitor has become a customer; identify as the customer")
    return Refused(errors_pb2.REASON_TOKEN_REVOKED, "the access token was taken back; log in again")
