"""Read an agent's profile from the user service."""

from __future__ import annotations

from typing import NamedTuple

import grpc
import structlog
from octopus.user.v1.user_service_pb2 import GetUserRequest
from octopus.user.v1.user_service_pb2_grpc import UserServiceStub

from mesh.errors import Refused
from mesh.rpc.metadata import as_service
from services.session.domain import DEFAULT_CAPACITY

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 2.0


class Profile(NamedTuple):
    """How many sessions an agent takes at once, and whether the account is disabled."""

    capacity: int
    disabled: bool = False


class AgentProfiles:
    """Client of the user service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._users = UserServiceStub(channel)

    async def profile_of(self, tenant_id: str, user_id: int) -> Profile | None:
        """Return an agent's profile, None while the user service does not answer.

        Setting a status does not depend on it; changes of the profile arrive by event.
        """
        try:
            response = await self._users.GetUser(
                GetUserRequest(user_id=user_id), metadata=as_service(tenant_id, affinity=user_id), timeout=_TIMEOUT_S
            )
        except Refused as error:
            _log.warning("profile of an agent not known", tenant=tenant_id, reason=error.reason_name)
            return None
        return Profile(response.user.capacity or DEFAULT_CAPACITY, response.user.disabled)
