"""Read sessions from the session service on behalf of the caller."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from octopus.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from mesh.rpc.metadata import on_behalf
from mesh.rpc.principal import Principal

# Seconds; a shopper waits for this before anything is on the screen.
_TIMEOUT_S = 4.0


class SessionClient:
    """Reads sessions from the session service. Raises `Refused` with the service's own reason."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = session_service_pb2_grpc.SessionServiceStub(channel)

    async def list_open(self, principal: Principal) -> Sequence[session_pb2.Session]:
        """Return the open sessions in which a person takes part."""
        response = await self._stub.ListOpenSessions(
            session_service_pb2.ListOpenSessionsRequest(), metadata=on_behalf(principal), timeout=_TIMEOUT_S
        )
        return response.sessions

    async def get(self, principal: Principal, session_id: int) -> session_pb2.Session:
        """Return one session that the caller may see."""
        response = await self._stub.GetSession(
            session_service_pb2.GetSessionRequest(session_id=session_id),
            metadata=on_behalf(principal),
            timeout=_TIMEOUT_S,
        )
        return response.session
