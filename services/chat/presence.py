"""Report to the presence service who is connected to this instance.

What happens within a second goes out together, so that ten thousand people who come back at once make a dozen calls.
Each report builds on the one before. After a failure, and when the presence service has forgotten, everybody is
reported.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import grpc
import structlog
from octopus.options.v1 import options_pb2
from octopus.presence.v1 import presence_service_pb2 as pb
from octopus.presence.v1 import presence_service_pb2_grpc

from mesh.errors import Refused
from mesh.telemetry.outage import Outage
from services.chat.connection import Connection
from services.chat.registry import ConnectionRegistry, UserKey

_log = structlog.get_logger(__name__)

# How long changes are collected, and how often the instance says that it lives when there are none, in seconds.
COLLECT_S: Final = 1.0
HEARTBEAT_S: Final = 3.0
# Persons in one report, devices of one of them, and how long a report may take: the contract's bounds.
_MOST_PERSONS: Final = 1000
_MOST_DEVICES: Final = 32
_TIMEOUT_S: Final = 3.0

_STAFF: Final = (
    options_pb2.ROLE_AGENT,
    options_pb2.ROLE_SUPERVISOR,
    options_pb2.ROLE_KNOWLEDGE_ADMIN,
    options_pb2.ROLE_ADMIN,
)


class Presences(Protocol):
    """Where reports go."""

    async def report(self, request: pb.ReportPresenceRequest) -> bool:
        """Send a report; return False when everybody is to be reported."""


class PresenceClient:
    """The presence service. Raises `Refused`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = presence_service_pb2_grpc.PresenceServiceStub(channel)

    async def report(self, request: pb.ReportPresenceRequest) -> bool:
        """Send a report; return False when everybody is to be reported."""
        response = await self._stub.ReportPresence(request, timeout=_TIMEOUT_S)
        return not response.begin_again


class PresenceReporter:
    """Reports the connections of a registry."""

    def __init__(
        self,
        instance: str,
        registry: ConnectionRegistry,
        presences: Presences,
        *,
        collect_s: float = COLLECT_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """`instance` names this running process."""
        self._collect_s = collect_s
        self._heartbeat_s = heartbeat_s
        self._instance = instance
        self._registry = registry
        self._presences = presences
        self._sequence = 0
        self._reported_at = float("-inf")
        # Persons whose streams have changed since they were reported, and whether they are staff.
        self._changed: dict[UserKey, bool] = {}
        self._everybody = True
        registry.on_presence = self._on_change

    async def run(self) -> None:
        """Report until cancelled."""
        outage = Outage(_log, "presence not reported, retrying", "presence is reported again")
        while True:
            await asyncio.sleep(self._collect_s)
            if not self._everybody and not self._changed and time.monotonic() - self._reported_at < self._heartbeat_s:
                continue
            try:
                await self.report()
            except Refused as error:
                outage.failed(error)
            else:
                outage.succeeded()

    async def report(self) -> None:
        """Report what has changed, or everybody. Raises `Refused`; everybody is reported the next time then."""
        # Nobody knows what a report has done that fails or is cut off.
        everybody, self._everybody = self._everybody, True
        if everybody or not await self._send(first=False):
            self._changed = {key: self._is_staff(key) for key in self._registry.users}
            if not await self._send(first=True):
                # The other side has lost what it was told a moment ago.
                return
        self._everybody = False

    async def _send(self, *, first: bool) -> bool:
        changed, self._changed = list(self._changed.items()), {}
        for start in range(0, max(len(changed), 1), _MOST_PERSONS):
            self._sequence += 1
            request = pb.ReportPresenceRequest(
                instance=self._instance,
                sequence=self._sequence,
                first=first and start == 0,
                persons=[self._person(key, staff=staff) for key, staff in changed[start : start + _MOST_PERSONS]],
            )
            if not await self._presences.report(request):
                return False
        self._reported_at = time.monotonic()
        return True

    def _on_change(self, key: UserKey) -> None:
        self._changed[key] = self._is_staff(key)

    def _is_staff(self, key: UserKey) -> bool:
        return any(connection.principal.has(*_STAFF) for connection in self._registry.connections_of(*key))

    def _person(self, key: UserKey, *, staff: bool) -> pb.ConnectedPerson:
        tenant_id, user_id = key
        return pb.ConnectedPerson(
            tenant_id=tenant_id,
            user_id=user_id,
            staff=staff,
            devices=_devices(self._registry.connections_of(tenant_id, user_id)),
        )


def _devices(connections: Sequence[Connection]) -> list[pb.Device]:
    streams: dict[str, int] = {}
    for connection in connections:
        # Beyond the bound it counts as a device without a name.
        name = connection.device_id if connection.device_id in streams or len(streams) < _MOST_DEVICES - 1 else ""
        streams[name] = streams.get(name, 0) + 1
    return [pb.Device(id=name, streams=count) for name, count in sorted(streams.items())]
