"""Translates between the contract and the life of sessions."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from octopus.errors.v1.errors_pb2 import REASON_INVALID_ARGUMENT
from octopus.options.v1 import options_pb2 as options
from octopus.session.v1 import session_service_pb2 as pb
from octopus.session.v1 import session_service_pb2_grpc

from mesh.errors import Refused
from mesh.rpc import principal
from services.session import wire
from services.session.agents.duty import Duty
from services.session.agents.profiles import Profile
from services.session.domain import AgentStatus, HandoffReason, SessionState, Viewer
from services.session.lifecycle import Lifecycle
from services.session.store import Store

_DEFAULT_PAGE: Final = 50
_MOST_OPEN: Final = 100

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

ProfileOf = Callable[[str, int], Awaitable[Profile | None]]
"""Look up the profile of an agent of a shop; None when it cannot be known now."""


class SessionServicer(session_service_pb2_grpc.SessionServiceServicer):
    """The methods of `octopus.session.v1.SessionService`."""

    def __init__(self, *, lifecycle: Lifecycle, duty: Duty, store: Store, profile_of: ProfileOf) -> None:
        self._lifecycle = lifecycle
        self._duty = duty
        self._store = store
        self._profile_of = profile_of

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:
        """Return the shopper's open session, or a new one in the care of the bot."""
        session, created = await self._lifecycle.open(
            _viewer(), name=principal.current().display_name, channel=request.channel, locale=request.locale
        )
        return pb.OpenSessionResponse(session=wire.session(session), created=created)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        """Return a session that the caller may see."""
        viewer = _viewer()
        session = viewer.must_see(await self._store.session(viewer.tenant_id, request.session_id))
        return pb.GetSessionResponse(session=wire.session(session))

    async def ListOpenSessions(
        self, request: pb.ListOpenSessionsRequest, context: Context
    ) -> pb.ListOpenSessionsResponse:
        """Return the open sessions in which the caller takes part."""
        viewer = _viewer()
        sessions = await self._store.open_of(viewer.tenant_id, viewer.user_id, limit=_MOST_OPEN)
        return pb.ListOpenSessionsResponse(sessions=map(wire.session, sessions))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        """Return a page of sessions that the caller may see."""
        size = request.page_size or _DEFAULT_PAGE
        before_id = _position(request.page_token, int) if request.page_token else (0,)
        sessions = await self._store.page(
            _viewer(),
            before_id=before_id[0],
            limit=size + 1,
            states=[SessionState(state) for state in request.states if state],
            customer_id=request.customer_id,
        )
        page = sessions[:size]
        return pb.ListSessionsResponse(
            sessions=map(wire.session, page),
            next_page_token=_token(page[-1].id) if len(sessions) > size else "",
        )

    async def RequestHandoff(self, request: pb.RequestHandoffRequest, context: Context) -> pb.RequestHandoffResponse:
        """Ask for a person."""
        session = await self._lifecycle.request_handoff(_viewer(), request.session_id, HandoffReason(request.reason))
        return pb.RequestHandoffResponse(session=wire.session(session))

    async def AcceptSession(self, request: pb.AcceptSessionRequest, context: Context) -> pb.AcceptSessionResponse:
        """Accept an offer."""
        session = await self._lifecycle.accept(_viewer(), request.session_id)
        return pb.AcceptSessionResponse(session=wire.session(session))

    async def EndSession(self, request: pb.EndSessionRequest, context: Context) -> pb.EndSessionResponse:
        """End a session."""
        session = await self._lifecycle.end(_viewer(), request.session_id)
        return pb.EndSessionResponse(session=wire.session(session))

    async def SetAgentStatus(self, request: pb.SetAgentStatusRequest, context: Context) -> pb.SetAgentStatusResponse:
        """Set the caller's status; name and capacity are brought up to date with it."""
        viewer = _viewer()
        agent = await self._duty.set_status(
            viewer,
            AgentStatus(request.status),
            name=principal.current().display_name,
            profile=await self._profile_of(viewer.tenant_id, viewer.user_id),
            token_generation=principal.current().generation,
        )
        return pb.SetAgentStatusResponse(agent=wire.agent(agent))

    async def GetAgent(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        """Return the caller as an agent."""
        agent = await self._duty.agent(_viewer(), name=principal.current().display_name)
        return pb.GetAgentResponse(agent=wire.agent(agent))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        """Return a page of agents by name, and how many sessions wait."""
        tenant_id = principal.current().tenant_id
        size = request.page_size or _DEFAULT_PAGE
        name, user_id = _position(request.page_token, str, int) if request.page_token else ("", 0)
        agents = await self._store.agents(tenant_id, after=(name, user_id), limit=size + 1)
        page = agents[:size]
        return pb.ListAgentsResponse(
            agents=map(wire.agent, page),
            next_page_token=_token(page[-1].display_name, page[-1].user_id) if len(agents) > size else "",
            waiting_sessions=await self._store.count_waiting(tenant_id),
        )


def _viewer() -> Viewer:
    caller = principal.current()
    return Viewer(
        tenant_id=caller.tenant_id,
        user_id=caller.user_id,
        shopper=caller.has(options.ROLE_VISITOR, options.ROLE_CUSTOMER),
        agent=caller.has(options.ROLE_AGENT),
        supervisor=caller.has(options.ROLE_SUPERVISOR, options.ROLE_ADMIN),
        service=caller.is_service,
    )


def _token(*position: str | int) -> str:
    """Say where the next page begins, in a form that nobody is tempted to take apart."""
    return base64.urlsafe_b64encode(json.dumps(position, ensure_ascii=False).encode()).decode()


def _position(token: str, *kinds: type) -> list[Any]:
    """Read a page token. Raises `Refused` for one that we did not make."""
    try:
        position = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError):
        position = None
    if not isinstance(position, list) or list(map(type, position)) != list(kinds):
        raise Refused(
            REASON_INVALID_ARGUMENT,
            "the page token was not made by this method",
            violations=[("page_token", "use next_page_token of the response before, or nothing for the first page")],
        )
    return position
