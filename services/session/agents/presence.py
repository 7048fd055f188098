"""Read from the presence service which agents are connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import grpc
from octopus.presence.v1.presence_service_pb2 import ListPresenceRequest
from octopus.presence.v1.presence_service_pb2_grpc import PresenceServiceStub

from mesh.rpc.metadata import as_service

# As many as one call may ask for.
MOST = 500

_TIMEOUT_S = 2.0


class AgentPresences:
    """Client of the presence service. Raises `Refused` while it does not answer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._presences = PresenceServiceStub(channel)

    async def offline_for(self, tenant_id: str, user_ids: Sequence[int]) -> Mapping[int, timedelta | None]:
        """Return how long each of at most `MOST` persons has had no connection; None for who has one."""
        response = await self._presences.ListPresence(
            ListPresenceRequest(user_ids=user_ids), metadata=as_service(tenant_id), timeout=_TIMEOUT_S
        )
        return {each.user_id: None if each.online else each.offline_for.ToTimedelta() for each in response.presences}
