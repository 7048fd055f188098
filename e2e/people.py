"""Who tests and demos talk as: shoppers and agents of a demo shop."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from e2e.clients import edge as way_in
from e2e.clients.edge import Edge, Identity
from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, Transport
from mesh.errors import from_rpc_error

_customers = itertools.count(int(time.time() * 1000))

# Passwords are slow to check, by design; a token of theirs is good for 15 minutes.
_log_ins: dict[tuple[str, str, str], tuple[float, Identity]] = {}
_GOOD_FOR_S = 480.0


class Shop:
    """A demo shop: its log-ins, and what its people do through the edge."""

    def __init__(self, tenant_id: str, logins: dict[str, Any], edge: Edge, channel: grpc.aio.Channel) -> None:
        self.tenant_id = tenant_id
        self.logins = logins
        self.edge = edge
        self.channel = channel
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)

    @property
    def agents(self) -> list[str]:
        """Log-in names of the agents."""
        return [person["login"] for person in self.logins["staff"] if "AGENT" in person["roles"]]

    def who_is(self, role: str) -> str:
        """Return the log-in name of somebody with a role, e.g. "KNOWLEDGE_ADMIN"."""
        return str(next(person["login"] for person in self.logins["staff"] if role in person["roles"]))

    async def visitor(self, locale: str = "zh-CN") -> Identity:
        """Return somebody the shop does not know."""
        return await way_in.visitor(self.channel, self.tenant_id, locale)

    async def customer(self, display_name: str = "王小明", customer_id: str = "") -> Identity:
        """Return a customer of the shop; a new one unless an id is given."""
        return await way_in.customer(
            self.channel,
            self.tenant_id,
            self.logins["identity_secret"],
            customer_id or f"customer-{next(_customers)}",
            display_name,
        )

    async def staff(self, login: str) -> Identity:
        """Return a member of staff, logged in when the last time is long ago."""
        key = (self.edge.address, self.tenant_id, login)
        at, identity = _log_ins.get(key, (0.0, None))
        if identity is None or time.monotonic() - at > _GOOD_FOR_S:
            password = next(person["password"] for person in self.logins["staff"] if person["login"] == login)
            identity = await way_in.staff(self.channel, self.tenant_id, login, password)
            _log_ins[key] = time.monotonic(), identity
        return identity

    def forget_log_in(self, login: str) -> None:
        """Log the member of staff in anew the next time: the tokens were taken back."""
        _log_ins.pop((self.edge.address, self.tenant_id, login), None)

    async def open_session(self, shopper: Identity, channel: str = "web") -> session_pb2.Session:
        """Open a shopper's session."""
        response = await self.sessions.OpenSession(
            session_service_pb2.OpenSessionRequest(channel=channel, locale="zh-CN"), metadata=shopper.metadata
        )
        return response.session

    async def ask_for_a_person(self, shopper: Identity, session_id: int) -> session_pb2.Session:
        """Press the button."""
        response = await self.sessions.RequestHandoff(
            session_service_pb2.RequestHandoffRequest(session_id=session_id, reason=session_pb2.HANDOFF_REASON_BUTTON),
            metadata=shopper.metadata,
        )
        return response.session

    async def accept(self, agent: Identity, session_id: int) -> session_pb2.Session:
        """Accept an offer."""
        response = await self.sessions.AcceptSession(
            session_service_pb2.AcceptSessionRequest(session_id=session_id), metadata=agent.metadata
        )
        return response.session

    async def end(self, who: Identity, session_id: int) -> session_pb2.Session:
        """End a session."""
        response = await self.sessions.EndSession(
            session_service_pb2.EndSessionRequest(session_id=session_id), metadata=who.metadata
        )
        return response.session

    async def status(self, agent: Identity) -> session_pb2.AgentStatus.ValueType:
        """Return an agent's status."""
        response = await self.sessions.GetAgent(session_service_pb2.GetAgentRequest(), metadata=agent.metadata)
        return response.agent.status

    async def set_status(self, agent: Identity, status: session_pb2.AgentStatus.ValueType) -> None:
        """Set an agent's status."""
        await self.sessions.SetAgentStatus(
            session_service_pb2.SetAgentStatusRequest(status=status), metadata=agent.metadata
        )

    @asynccontextmanager
    async def present(self, identity: Identity, transport: Transport | None = None) -> AsyncIterator[Participant]:
        """Let somebody be connected."""
        async with Participant(identity, transport or Grpc(self.edge)).connected() as participant:
            yield participant

    async def close_up(self) -> None:
        """End what is open and send every agent away, so that a test finds an empty shop."""
        for login in self.agents:
            await self.set_status(await self.staff(login), session_pb2.AGENT_STATUS_AWAY)
        supervisor = await self.staff(self.who_is("SUPERVISOR"))
        while True:
            page = await self.sessions.ListSessions(
                session_service_pb2.ListSessionsRequest(
                    page_size=200,
                    states=[
                        session_pb2.SESSION_STATE_BOT,
                        session_pb2.SESSION_STATE_WAITING,
                        session_pb2.SESSION_STATE_ASSIGNED,
                        session_pb2.SESSION_STATE_ACTIVE,
                        session_pb2.SESSION_STATE_WARNING,
                    ],
                ),
                metadata=supervisor.metadata,
            )
            for session in page.sessions:
                await self._end_quietly(supervisor, session.id)
            if not page.sessions:
                return

    async def _end_quietly(self, supervisor: Identity, session_id: int) -> None:
        try:
            await self.end(supervisor, session_id)
        except grpc.aio.AioRpcError as error:
            if from_rpc_error(error).reason != errors_pb2.REASON_SESSION_STATE:
                raise
