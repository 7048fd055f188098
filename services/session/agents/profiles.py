"""What the user service knows of an agent."""

from __future__ import annotations

import grpc
import structlog
from octopus.user.v1.user_service_pb2 import GetUserRequest
from octopus.user.v1.user_service_pb2_grpc import UserServiceStub

from mesh.errors import Refused
from mesh.rpc.metadata import as_service
from services.session.domain import DEFAULT_CAPACITY

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 2.0


class AgentProfiles:
    """Asks the user service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._users = UserServiceStub(channel)

    async def capacity_of(self, tenant_id: str, user_id: int) -> int | None:
        """Return how many sessions the agent takes at once, None while the user service cannot tell.

        An agent must be able to come and go without it; a capacity that changed meanwhile arrives by event.
        """
        try:
            response = await self._users.GetUser(
                GetUserRequest(user_id=user_id), metadata=as_service(tenant_id, affinity=user_id), timeout=_TIMEOUT_S
            )
        except Refused as error:
            _log.warning("capacity of an agent not known", tenant=tenant_id, reason=error.reason_name)
            return None
        return response.user.capacity or DEFAULT_CAPACITY
