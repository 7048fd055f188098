"""SessionService on the wire: translate between the contract and the rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc
from octopus.options.v1 import options_pb2 as options
from octopus.session.v1 import session_pb2, session_service_pb2_grpc
from octopus.session.v1 import session_service_pb2 as pb

from mesh.rpc import principal
from mesh.rpc.paging import Paging
from services.session import wire
from services.session.agents.duty import Duty
from services.session.agents.profiles import Profile
from services.session.closing import Closing
from services.session.domain import AgentStatus, HandoffReason, Session, SessionState, Viewer
from services.session.lifecycle import Lifecycle
from services.session.settings import ShopSettings
from services.session.store import Store

_SESSIONS: Final = Paging("ListSessions", (0,))
_AGENTS: Final = Paging("ListAgents", ("", 0))
_MOST_OPEN: Final = 100

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

ProfileOf = Callable[[str, int], Awaitable[Profile | None]]
"""Look up the profile of an agent of a shop; None when it cannot be known now."""


class SessionServicer(session_service_pb2_grpc.SessionServiceServicer):
    """The methods of `octopus.session.v1.SessionService`."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        duty: Duty,
        store: Store,
        closing: Closing,
        settings: ShopSettings,
        profile_of: ProfileOf,
    ) -> None:
        self._lifecycle = lifecycle
        self._duty = duty
        self._store = store
        self._closing = closing
        self._settings = settings
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
        (shown,) = await self._with_remains(viewer, [session])
        return pb.GetSessionResponse(session=shown)

    async def ListOpenSessions(
        self, request: pb.ListOpenSessionsRequest, context: Context
    ) -> pb.ListOpenSessionsResponse:
        """Return the open sessions in which the caller takes part."""
        viewer = _viewer()
        sessions = await self._store.open_of(viewer.tenant_id, viewer.user_id, limit=_MOST_OPEN)
        return pb.ListOpenSessionsResponse(sessions=map(wire.session, sessions))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        """Return a page of sessions that the caller may see."""
        size, (before_id,) = _SESSIONS.size(request.page_size), _SESSIONS.position(request.page_token)
        viewer = _viewer()
        sessions = await self._store.page(
            viewer,
            before_id=before_id,
            limit=size + 1,
            states=[SessionState(state) for state in request.states if state],
            customer_id=request.customer_id,
        )
        page, following = _SESSIONS.page(sessions, size, lambda session: (session.id,))
        return pb.ListSessionsResponse(sessions=await self._with_remains(viewer, page), next_page_token=following)

    async def RequestHandoff(self, request: pb.RequestHandoffRequest, context: Context) -> pb.RequestHandoffResponse:
        """Ask for a person."""
        session = await self._lifecycle.request_handoff(_viewer(), request.session_id, HandoffReason(request.reason))
        return pb.RequestHandoffResponse(session=wire.session(session))

    async def AcceptSession(self, request: pb.AcceptSessionRequest, context: Context) -> pb.AcceptSessionResponse:
        """Accept an offer."""
        session = await self._lifecycle.accept(_viewer(), request.session_id)
        return pb.AcceptSessionResponse(session=wire.session(session))

    async def PickSession(self, request: pb.PickSessionRequest, context: Context) -> pb.PickSessionResponse:
        """Take a session out of the queue."""
        session = await self._lifecycle.pick(_viewer(), request.session_id, name=principal.current().display_name)
        return pb.PickSessionResponse(session=wire.session(session))

    async def EndSession(self, request: pb.EndSessionRequest, context: Context) -> pb.EndSessionResponse:
        """End a session."""
        session = await self._lifecycle.end(_viewer(), request.session_id)
        return pb.EndSessionResponse(session=wire.session(session))

    async def RateSession(self, request: pb.RateSessionRequest, context: Context) -> pb.RateSessionResponse:
        """Take how the customer was served."""
        session, satisfaction = await self._lifecycle.rate(
            _viewer(), request.session_id, score=request.score, comment=request.comment
        )
        return pb.RateSessionResponse(session=wire.session(session, satisfaction=satisfaction))

    async def GetSessionSettings(
        self, request: pb.GetSessionSettingsRequest, context: Context
    ) -> pb.GetSessionSettingsResponse:
        """Return the shop's settings."""
        settings = await self._settings.of(principal.current().tenant_id)
        return pb.GetSessionSettingsResponse(settings=wire.settings(settings))

    async def UpdateSessionSettings(
        self, request: pb.UpdateSessionSettingsRequest, context: Context
    ) -> pb.UpdateSessionSettingsResponse:
        """Replace the shop's settings."""
        settings = wire.settings_of(request.settings)
        await self._settings.replace(principal.current().tenant_id, settings)
        return pb.UpdateSessionSettingsResponse(settings=wire.settings(settings))

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

    async def GetAbsenceSettings(
        self, request: pb.GetAbsenceSettingsRequest, context: Context
    ) -> pb.GetAbsenceSettingsResponse:
        """Return how long agents of the shop may be without a connection."""
        rules = await self._store.absence_rules(principal.current().tenant_id)
        return pb.GetAbsenceSettingsResponse(settings=wire.absence_settings(rules))

    async def UpdateAbsenceSettings(
        self, request: pb.UpdateAbsenceSettingsRequest, context: Context
    ) -> pb.UpdateAbsenceSettingsResponse:
        """Change how long agents of the shop may be without a connection."""
        rules = wire.absence_rules(request.settings)
        await self._store.set_absence_rules(principal.current().tenant_id, rules)
        return pb.UpdateAbsenceSettingsResponse(settings=wire.absence_settings(rules))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        """Return a page of agents by name, and how many sessions wait."""
        tenant_id = principal.current().tenant_id
        size, after = _AGENTS.size(request.page_size), _AGENTS.position(request.page_token)
        agents = await self._store.agents(tenant_id, after=after, limit=size + 1)
        page, following = _AGENTS.page(agents, size, lambda agent: (agent.display_name, agent.user_id))
        return pb.ListAgentsResponse(
            agents=map(wire.agent, page),
            next_page_token=following,
            waiting_sessions=await self._store.count_waiting(tenant_id),
        )

    async def _with_remains(self, viewer: Viewer, sessions: Sequence[Session]) -> list[session_pb2.Session]:
        """Return sessions with what people may see of how they ended; services decide by their states alone."""
        if viewer.service:
            return [wire.session(session) for session in sessions]
        wanted = [session.id for session in sessions if session.accepted_at or session.state is SessionState.ENDED]
        remains = await self._closing.of(viewer.tenant_id, wanted)
        staff = viewer.agent or viewer.supervisor
        shown = []
        for session in sessions:
            satisfaction, summary = remains.get(session.id, (None, None))
            shown.append(wire.session(session, satisfaction=satisfaction, summary=summary if staff else None))
        return shown


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
