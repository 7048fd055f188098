"""The service as others meet it: over mutual TLS, with tokens, on two instances in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.errors.v1 import errors_pb2 as errors
from octopus.options.v1.options_pb2 import ROLE_AGENT
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.session.v1.session_events_pb2 import AgentEvent, SessionEvent, SessionNotice
from octopus.user.v1.user_events_pb2 import (
    LOG_OUT_CAUSE_DISABLED,
    UserEvent,
    UserLoggedOut,
    UserMerged,
    UserUpdated,
)
from octopus.user.v1.user_pb2 import USER_KIND_CUSTOMER, USER_KIND_STAFF, User

from mesh.errors import Refused
from mesh.rpc.metadata import with_token
from mesh.testing import Platform
from mesh.testing.rpc import dialling
from services.session.events import SessionChanged
from services.session.tests.parts import Parts, eventually
from services.session.tests.service import Person, Service, refusal, service

pytestmark = pytest.mark.service

pb = session_service_pb2
AGENT, COLLEAGUE, SUPERVISOR = 900, 901, 990
WEB = pb.OpenSessionRequest(channel="web", locale="zh-CN")


@pytest.fixture(scope="module")
async def running(migrated: Platform) -> AsyncIterator[Service]:
    async with service(migrated, reconcile_every_s=0.5, lapse_every_s=0.2, offer_s=3600, tell_after_s=0.05) as opened:
        yield opened


def handoff(session: session_pb2.Session) -> pb.RequestHandoffRequest:
    return pb.RequestHandoffRequest(session_id=session.id, reason=session_pb2.HANDOFF_REASON_BUTTON)


def available() -> pb.SetAgentStatusRequest:
    return pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AVAILABLE)


async def opened(person: Person) -> session_pb2.Session:
    response = await person.OpenSession(WEB)
    found: session_pb2.Session = response.session
    return found


async def test_a_conversation_from_the_bot_to_its_end(running: Service, tenant: str) -> None:
    customer, agent = running.customer(tenant, 1), running.agent(tenant, AGENT)
    first = await customer.OpenSession(WEB)
    assert first.created
    assert first.session.state == session_pb2.SESSION_STATE_BOT
    assert (first.session.customer_name, first.session.channel, first.session.locale) == ("林小青", "web", "zh-CN")
    again = await customer.OpenSession(WEB)
    assert not again.created
    assert again.session.id == first.session.id

    asked = (await running.robot(tenant).RequestHandoff(handoff(first.session))).session
    assert (asked.state, asked.queue_position) == (session_pb2.SESSION_STATE_WAITING, 1)
    status = (await agent.SetAgentStatus(available())).agent
    assert (status.load, status.capacity, status.display_name) == (1, 5, "客服900")
    (offer,) = (await agent.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions
    assert offer.state == session_pb2.SESSION_STATE_ASSIGNED
    accepted = (await agent.AcceptSession(pb.AcceptSessionRequest(session_id=offer.id))).session
    assert (accepted.state, accepted.agent_name) == (session_pb2.SESSION_STATE_ACTIVE, "客服900")
    ended = (await customer.EndSession(pb.EndSessionRequest(session_id=offer.id))).session
    assert (ended.state, ended.end_reason) == (session_pb2.SESSION_STATE_ENDED, session_pb2.END_REASON_CUSTOMER)
    assert (await customer.OpenSession(WEB)).created

    await told(running, tenant, ended)


async def test_an_agent_whose_page_is_closed_is_away_and_may_return(
    running: Service, migrated: Platform, tenant: str
) -> None:
    agent = running.agent(tenant, AGENT)
    await agent.SetAgentStatus(available())
    session = await opened(running.customer(tenant, 1))
    await running.customer(tenant, 1).RequestHandoff(handoff(session))
    (offer,) = (await agent.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions
    assert offer.offered_until.ToSeconds() > 0
    running.presences.offline_for[tenant, AGENT] = 3600
    await migrated.postgres.execute(
        f"UPDATE cs_agent SET acted_at = acted_at - interval '30 seconds' WHERE tenant_id = '{tenant}'"  # noqa: S608
    )

    async def away() -> bool:
        now = (await agent.GetAgent(pb.GetAgentRequest())).agent
        return bool(now.status == session_pb2.AGENT_STATUS_AWAY)

    await eventually(away, "the agent is away")
    now = (await agent.GetAgent(pb.GetAgentRequest())).agent
    assert (now.away_reason, now.earlier_status) == (
        session_pb2.AWAY_REASON_PAGE_CLOSED,
        session_pb2.AGENT_STATUS_AVAILABLE,
    )
    # Whoever says a status is there.
    back = (await agent.SetAgentStatus(available())).agent
    assert (back.status, back.away_reason) == (
        session_pb2.AGENT_STATUS_AVAILABLE,
        session_pb2.AWAY_REASON_UNSPECIFIED,
    )


async def test_an_administrator_says_how_long_agents_may_be_without_a_connection(running: Service, tenant: str) -> None:
    admin, agent = running.person(tenant, 5, "ADMIN"), running.agent(tenant, AGENT)
    settings = (await agent.GetAbsenceSettings(pb.GetAbsenceSettingsRequest())).settings
    assert (settings.away_after.seconds, settings.return_after.seconds) == (25, 90)
    settings.away_after.seconds, settings.return_after.seconds = 45, 120
    changed = await admin.UpdateAbsenceSettings(pb.UpdateAbsenceSettingsRequest(settings=settings))
    assert changed.settings == settings
    assert (await agent.GetAbsenceSettings(pb.GetAbsenceSettingsRequest())).settings == settings
    others = await running.agent(f"{tenant}-other", AGENT).GetAbsenceSettings(pb.GetAbsenceSettingsRequest())
    assert others.settings.away_after.seconds == 25
    refused = await refusal(agent.UpdateAbsenceSettings(pb.UpdateAbsenceSettingsRequest(settings=settings)))
    assert refused.reason == errors.REASON_ROLE_NOT_ALLOWED
    for away_after, return_after in ((9, 90), (301, 90), (25, 59), (25, 121)):
        settings.away_after.seconds, settings.return_after.seconds = away_after, return_after
        refused = await refusal(admin.UpdateAbsenceSettings(pb.UpdateAbsenceSettingsRequest(settings=settings)))
        assert refused.reason == errors.REASON_INVALID_ARGUMENT


async def told(running: Service, tenant: str, ended: session_pb2.Session) -> None:
    """The relay has published it all: to services, into the conversation, and to the people concerned."""

    async def published() -> bool:
        return len(await running.onlooker.read(f"event.session.{tenant}.{ended.id}", after_seq=0, limit=10)) == 5

    await eventually(published, "five events are published")
    stored = await running.onlooker.read(f"event.session.{tenant}.{ended.id}", after_seq=0, limit=10)
    changes = [SessionEvent.FromString(event.data).WhichOneof("change") for event in stored]
    assert changes == ["opened", "handoff_requested", "assigned", "accepted", "ended"]
    (agent_event,) = await running.onlooker.read(f"event.agent.{tenant}.{AGENT}", after_seq=0, limit=10)
    assert AgentEvent.FromString(agent_event.data).agent.status == session_pb2.AGENT_STATUS_AVAILABLE


async def test_a_change_stands_in_the_conversation_and_reaches_both_people(running: Service, tenant: str) -> None:
    customer = running.customer(tenant, 1)
    await running.agent(tenant, AGENT).SetAgentStatus(available())
    session = await opened(customer)
    await customer.RequestHandoff(handoff(session))

    async def stored() -> bool:
        entries = await running.onlooker.read(f"log.{tenant}.{session.id}", after_seq=0, limit=10)
        return len(entries) == 2 and await running.onlooker.last(f"notice.{tenant}.{AGENT}") is not None

    await eventually(stored, "both changes are in the log")
    entries = [
        LogEntry.FromString(entry.data)
        for entry in await running.onlooker.read(f"log.{tenant}.{session.id}", after_seq=0, limit=10)
    ]
    assert [entry.session_state for entry in entries] == [
        session_pb2.SESSION_STATE_WAITING,
        session_pb2.SESSION_STATE_ASSIGNED,
    ]
    assert [entry.message.content.change.previous_state for entry in entries] == [
        session_pb2.SESSION_STATE_BOT,
        session_pb2.SESSION_STATE_WAITING,
    ]
    assert [entry.message.content.fallback_text for entry in entries] == ["正在等待人工客服", "正在联系人工客服"]
    assert {(entry.tenant_id, entry.customer_id, entry.message.session_id) for entry in entries} == {
        (tenant, 1, session.id)
    }
    notices = await running.onlooker.read(f"notice.{tenant}.{AGENT}", after_seq=0, limit=10)
    assert [SessionNotice.FromString(notice.data).session.state for notice in notices] == [
        session_pb2.SESSION_STATE_ASSIGNED
    ]


async def test_nobody_sees_what_is_not_theirs(running: Service, tenant: str) -> None:
    session = await opened(running.customer(tenant, 1))
    wanted = pb.GetSessionRequest(session_id=session.id)
    strangers = [
        running.customer(tenant, 2),
        running.person(tenant, 3, "VISITOR"),
        running.agent(tenant, AGENT),
        running.customer(f"{tenant}-b", 1),
        running.person(f"{tenant}-b", SUPERVISOR, "SUPERVISOR"),
        running.robot(f"{tenant}-b"),
    ]
    for stranger in strangers:
        assert (await refusal(stranger.GetSession(wanted))).reason == errors.REASON_NOT_FOUND
    for known in (
        running.customer(tenant, 1),
        running.person(tenant, SUPERVISOR, "SUPERVISOR"),
        running.robot(tenant),
    ):
        assert (await known.GetSession(wanted)).session.id == session.id
    stranger = running.customer(tenant, 2)
    assert (await refusal(stranger.RequestHandoff(handoff(session)))).reason == errors.REASON_NOT_FOUND
    ending = pb.EndSessionRequest(session_id=session.id)
    assert (await refusal(stranger.EndSession(ending))).reason == errors.REASON_NOT_FOUND
    await running.customer(tenant, 1).RequestHandoff(handoff(session))
    assert (await running.agent(tenant, AGENT).GetSession(wanted)).session.queue_position == 1


async def test_the_list_of_sessions_and_the_rule_of_who_sees_one_agree(
    running: Service, one: Parts, tenant: str
) -> None:
    """Sessions in every state, with agents now and before; everybody lists exactly what they can get."""
    agents = [running.agent(tenant, number) for number in (AGENT, COLLEAGUE)]
    staff = [
        *agents,
        running.agent(tenant, 902),
        running.person(tenant, SUPERVISOR, "SUPERVISOR"),
        running.person(tenant, SUPERVISOR, "ADMIN"),
        running.person(f"{tenant}-b", SUPERVISOR, "SUPERVISOR"),
    ]
    shoppers = [running.customer(tenant, 2), running.person(tenant, 3, "VISITOR"), running.customer(f"{tenant}-b", 2)]
    await agents[0].SetAgentStatus(available())
    sessions = [await opened(running.customer(tenant, number)) for number in range(1, 8)]
    for number in range(2, 8):
        await running.customer(tenant, number).RequestHandoff(handoff(sessions[number - 1]))
    for number in range(2, 6):
        await agents[0].AcceptSession(pb.AcceptSessionRequest(session_id=sessions[number - 1].id))
    await agents[0].EndSession(pb.EndSessionRequest(session_id=sessions[1].id))
    await requeue(one, sessions[2])
    await requeue(one, sessions[3])
    await agents[0].SetAgentStatus(pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AWAY))
    await agents[1].SetAgentStatus(available())
    await agents[1].EndSession(pb.EndSessionRequest(session_id=sessions[3].id))
    listed = []
    for person in (*staff, *shoppers):
        shown = {found.id for found in (await person.ListSessions(pb.ListSessionsRequest())).sessions}
        got = set()
        for session in sessions:
            try:
                got.add((await person.GetSession(pb.GetSessionRequest(session_id=session.id))).session.id)
            except Refused as refused:
                if refused.reason != errors.REASON_NOT_FOUND:
                    raise
        assert shown == got
        listed.append([number for number, session in enumerate(sessions, 1) if session.id in shown])
    everything = list(range(1, 8))
    first, second, third, *rest = listed[: len(staff)]
    # Their own, now and before; for the second all that was offered after the first had gone; for the third nothing.
    assert first == [2, 3, 4, 5]
    assert second == [3, 4, 6, 7]
    assert third == []
    assert rest == [everything, everything, []]
    # A customer's has ended; a visitor's waits; somebody with the same number in another shop has none.
    assert listed[len(staff) :] == [[2], [3], []]


async def test_a_customer_pages_through_their_own_sessions_newest_first(running: Service, tenant: str) -> None:
    customer = running.customer(tenant, 1)
    mine = []
    for _ in range(3):
        mine.append((await opened(customer)).id)
        await customer.EndSession(pb.EndSessionRequest(session_id=mine[-1]))
    other = await opened(running.customer(tenant, 2))
    found: list[int] = []
    token = ""
    while not found or token:
        page = await customer.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=token))
        found += [session.id for session in page.sessions]
        token = page.next_page_token
    assert found == mine[::-1]
    of_another = pb.ListSessionsRequest(customer_id=other.customer_id)
    assert not (await customer.ListSessions(of_another)).sessions


async def requeue(part: Parts, session: session_pb2.Session) -> None:
    """Take a session from its agent, as happens when the agent leaves duty."""
    async with part.store.unit_of_work(session.tenant_id) as work:
        before = await work.session(session.id)
        assert before is not None
        after = await work.save(before, before.requeue(), SessionChanged.REQUEUED)
    await part.assigner.settle(session.tenant_id, [after])


async def test_what_the_state_does_not_allow_says_so(running: Service, tenant: str) -> None:
    customer, agent = running.customer(tenant, 1), running.agent(tenant, AGENT)
    session = await opened(customer)
    accept = pb.AcceptSessionRequest(session_id=session.id)
    assert (await refusal(agent.AcceptSession(accept))).reason == errors.REASON_SESSION_STATE
    await customer.EndSession(pb.EndSessionRequest(session_id=session.id))
    await customer.EndSession(pb.EndSessionRequest(session_id=session.id))
    assert (await refusal(customer.RequestHandoff(handoff(session)))).reason == errors.REASON_SESSION_ENDED
    missing = pb.GetSessionRequest(session_id=123)
    assert (await refusal(customer.GetSession(missing))).reason == errors.REASON_NOT_FOUND


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("OpenSession", pb.OpenSessionRequest(channel="fax")),
        ("GetSession", pb.GetSessionRequest()),
        ("RequestHandoff", pb.RequestHandoffRequest(session_id=1)),
    ],
)
async def test_a_malformed_request_is_refused(running: Service, tenant: str, method: str, request_: Any) -> None:
    refused = await refusal(getattr(running.customer(tenant, 1), method)(request_))
    assert refused.reason == errors.REASON_INVALID_ARGUMENT
    assert refused.violations


async def test_roles_and_callers_are_those_of_the_contract(running: Service, migrated: Platform, tenant: str) -> None:
    customer = running.customer(tenant, 1)
    assert (await refusal(customer.SetAgentStatus(available()))).reason == errors.REASON_ROLE_NOT_ALLOWED
    agent = running.agent(tenant, AGENT)
    assert (await refusal(agent.OpenSession(WEB))).reason == errors.REASON_ROLE_NOT_ALLOWED
    token = with_token(running.keys.token(tenant, 1, "CUSTOMER"))
    async with dialling(migrated.identity, "knowledge", "session", running.addresses[0]) as channel:
        stub = running.edge[0].__class__(channel)
        assert (await refusal(stub.OpenSession(WEB, metadata=token))).reason == errors.REASON_CALLER_NOT_ALLOWED


async def test_lists_are_paged_and_show_agents_their_own_and_what_waits(running: Service, tenant: str) -> None:
    agent, supervisor = running.agent(tenant, AGENT), running.person(tenant, SUPERVISOR, "SUPERVISOR")
    sessions = [await opened(running.customer(tenant, number)) for number in range(1, 6)]
    await running.customer(tenant, 2).RequestHandoff(handoff(sessions[1]))
    found, token = [], ""
    while True:
        page = await supervisor.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=token))
        assert len(page.sessions) <= 2
        found += [session.id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert found == [session.id for session in reversed(sessions)]
    assert [session.id for session in (await agent.ListSessions(pb.ListSessionsRequest())).sessions] == [sessions[1].id]
    only = pb.ListSessionsRequest(states=[session_pb2.SESSION_STATE_BOT], customer_id=3)
    assert [session.id for session in (await supervisor.ListSessions(only)).sessions] == [sessions[2].id]
    for forged in ("!", "e30=", "WyJhIl0=", "WzEsMl0="):
        refused = await refusal(supervisor.ListSessions(pb.ListSessionsRequest(page_token=forged)))
        assert refused.reason == errors.REASON_INVALID_ARGUMENT


async def test_agents_are_listed_by_name_with_load_and_what_waits(running: Service, tenant: str) -> None:
    for number in (COLLEAGUE, AGENT, AGENT + 5):
        await running.agent(tenant, number).SetAgentStatus(
            pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_BUSY)
        )
    await running.customer(tenant, 1).RequestHandoff(handoff(await opened(running.customer(tenant, 1))))
    agent = running.agent(tenant, AGENT)
    first = await agent.ListAgents(pb.ListAgentsRequest(page_size=2))
    second = await agent.ListAgents(pb.ListAgentsRequest(page_size=2, page_token=first.next_page_token))
    assert [found.user_id for found in (*first.agents, *second.agents)] == [AGENT, COLLEAGUE, AGENT + 5]
    assert (first.waiting_sessions, second.next_page_token) == (1, "")


async def test_an_agent_never_seen_is_away(running: Service, tenant: str) -> None:
    agent = (await running.agent(tenant, AGENT).GetAgent(pb.GetAgentRequest())).agent
    assert (agent.user_id, agent.status, agent.load) == (AGENT, session_pb2.AGENT_STATUS_AWAY, 0)


async def test_the_capacity_is_the_user_services_and_a_change_of_it_arrives(running: Service, tenant: str) -> None:
    agent_id = AGENT + 50
    running.users.capacities[agent_id] = 2
    agent = running.agent(tenant, agent_id)
    assert (await agent.SetAgentStatus(available())).agent.capacity == 2
    del running.users.capacities[agent_id]
    assert (await agent.SetAgentStatus(available())).agent.capacity == 2

    for number in (1, 2, 3):
        customer = running.customer(tenant, number)
        await customer.RequestHandoff(handoff(await opened(customer)))
    assert (await agent.GetAgent(pb.GetAgentRequest())).agent.load == 2
    user = User(id=agent_id, tenant_id=tenant, kind=USER_KIND_STAFF, display_name="新名字", capacity=3)
    await publish(running, UserEvent(event_id=agent_id, user=user, updated=UserUpdated()))

    async def has_three() -> bool:
        now = (await agent.GetAgent(pb.GetAgentRequest())).agent
        return (now.load, now.capacity, now.display_name) == (3, 3, "新名字")

    await eventually(has_three, "the third waiting customer is offered too")


def logged_out(tenant: str, user_id: int, generation: int, *, event_id: int) -> UserEvent:
    user = User(
        id=user_id,
        tenant_id=tenant,
        kind=USER_KIND_STAFF,
        display_name=f"客服{user_id}",
        roles=[ROLE_AGENT],
        disabled=True,
    )
    change = UserLoggedOut(cause=LOG_OUT_CAUSE_DISABLED, generation=generation)
    return UserEvent(event_id=event_id, user=user, logged_out=change)


async def test_a_disabled_agents_people_go_back_to_the_front_of_the_queue(running: Service, tenant: str) -> None:
    agent_id = AGENT + 60
    agent, colleague = running.agent(tenant, agent_id), running.agent(tenant, COLLEAGUE)
    await agent.SetAgentStatus(available())
    sessions = []
    for number in (1, 2, 3):
        sessions.append(await opened(running.customer(tenant, number)))
        await running.customer(tenant, number).RequestHandoff(handoff(sessions[-1]))
        if number == 2:
            # Who comes third finds nobody.
            busy = pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_BUSY)
            await agent.SetAgentStatus(busy)
    talking = sessions[0]
    await agent.AcceptSession(pb.AcceptSessionRequest(session_id=talking.id))

    event = logged_out(tenant, agent_id, 1, event_id=agent_id)
    await publish(running, event)

    async def places() -> list[int]:
        found = [
            (await running.customer(tenant, number).GetSession(pb.GetSessionRequest(session_id=session.id))).session
            for number, session in enumerate(sessions, 1)
        ]
        return [one.queue_position for one in found]

    async def requeued() -> bool:
        return await places() == [1, 2, 3]

    await eventually(requeued, "who talked and who was offered wait before who came later")

    # What the customer sees of it stands in the conversation.
    async def told_so() -> bool:
        return await last_change(running, tenant, talking) == (
            session_pb2.SESSION_STATE_ACTIVE,
            session_pb2.SESSION_STATE_WAITING,
        )

    await eventually(told_so, "the conversation says so")
    # A token from before cannot bring the agent back, wherever it arrives and however late the news.
    for _ in range(2):
        assert (await refusal(agent.SetAgentStatus(available()))).reason == errors.REASON_TOKEN_REVOKED
    assert (await agent.GetAgent(pb.GetAgentRequest())).agent.status == session_pb2.AGENT_STATUS_AWAY

    # Enabled again, the agent has new tokens. Old news that comes once more, or late, changes nothing.
    fresh = running.person(tenant, agent_id, "AGENT", gen=1)
    await fresh.SetAgentStatus(available())
    assert {one.id for one in (await fresh.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions} == {
        session.id for session in sessions
    }
    await fresh.AcceptSession(pb.AcceptSessionRequest(session_id=talking.id))
    event.event_id += 1
    await publish(running, event)
    await publish(running, logged_out(tenant, COLLEAGUE, 1, event_id=COLLEAGUE))

    async def dealt_with() -> bool:
        try:
            await colleague.SetAgentStatus(available())
        except Refused as refused:
            return refused.reason == errors.REASON_TOKEN_REVOKED
        # The news is still on its way.
        return False

    await eventually(dealt_with, "one who was never on duty cannot come with an old token either")
    now = (await fresh.GetAgent(pb.GetAgentRequest())).agent
    assert (now.status, now.load) == (session_pb2.AGENT_STATUS_AVAILABLE, 3)


async def last_change(
    running: Service, tenant: str, session: session_pb2.Session
) -> tuple[session_pb2.SessionState.ValueType, session_pb2.SessionState.ValueType]:
    """Return the states before and after the last change that the conversation shows."""
    stored = await running.onlooker.last(f"log.{tenant}.{session.id}")
    assert stored is not None
    change = LogEntry.FromString(stored.data).message.content.change
    return change.previous_state, change.session.state


async def test_an_agent_whom_the_user_service_calls_disabled_is_not_available(running: Service, tenant: str) -> None:
    agent_id = AGENT + 70
    running.users.capacities[agent_id] = 5
    running.users.disabled.add(agent_id)
    refused = await refusal(running.agent(tenant, agent_id).SetAgentStatus(available()))
    assert refused.reason == errors.REASON_DISABLED


async def publish(running: Service, event: UserEvent) -> None:
    await running.bus.publish(
        f"event.user.{event.user.tenant_id}.{event.user.id}",
        event,
        message_id=f"{event.user.tenant_id}-{event.event_id}",
    )


def merged(tenant: str, visitor_id: int, customer_id: int) -> UserEvent:
    return UserEvent(
        event_id=visitor_id,
        user=User(id=customer_id, tenant_id=tenant, kind=USER_KIND_CUSTOMER, display_name="林小青"),
        merged=UserMerged(visitor_id=visitor_id, customer_id=customer_id),
    )


async def test_a_merged_visitors_session_becomes_the_customers(running: Service, tenant: str) -> None:
    visitor = running.person(tenant, 11, "VISITOR", name="访客")
    session = await opened(visitor)
    await publish(running, merged(tenant, 11, 1))
    customer = running.customer(tenant, 1)

    async def owns() -> bool:
        found = (await customer.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions
        return [(one.id, one.customer_name) for one in found] == [(session.id, "林小青")]

    await eventually(owns, "the customer has the visitor's session")
    hidden = pb.GetSessionRequest(session_id=session.id)
    assert (await refusal(visitor.GetSession(hidden))).reason == errors.REASON_NOT_FOUND


async def test_when_both_have_a_session_the_one_that_came_further_goes_on(running: Service, tenant: str) -> None:
    visitor, customer = running.person(tenant, 11, "VISITOR"), running.customer(tenant, 1)
    kept = await opened(visitor)
    await visitor.RequestHandoff(handoff(kept))
    other = await opened(customer)
    await publish(running, merged(tenant, 11, 1))

    async def goes_on() -> bool:
        found = (await customer.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions
        return [one.id for one in found] == [kept.id]

    await eventually(goes_on, "the visitor's session, which waits for a person, goes on")
    ended = (await customer.GetSession(pb.GetSessionRequest(session_id=other.id))).session
    assert ended.end_reason == session_pb2.END_REASON_MERGED
    # And it can still be served.
    await running.agent(tenant, AGENT).SetAgentStatus(available())
    now = (await customer.GetSession(pb.GetSessionRequest(session_id=kept.id))).session
    assert now.agent_id == AGENT


async def test_those_who_wait_are_told_their_place_by_themselves(running: Service, tenant: str) -> None:
    sessions = []
    for number in (1, 2, 3):
        customer = running.customer(tenant, number)
        sessions.append(await opened(customer))
        await customer.RequestHandoff(handoff(sessions[-1]))
    await running.customer(tenant, 1).EndSession(pb.EndSessionRequest(session_id=sessions[0].id))

    async def told_so() -> bool:
        last = await running.onlooker.last(f"notice.{tenant}.3")
        return last is not None and SessionNotice.FromString(last.data).session.queue_position == 2

    await eventually(told_so, "the third customer is told to be second now")


async def test_a_handoff_asked_for_while_valkey_is_frozen_is_not_lost(
    running: Service, migrated: Platform, tenant: str
) -> None:
    customer, agent = running.customer(tenant, 1), running.agent(tenant, AGENT)
    session = await opened(customer)
    migrated.valkey.pause()
    try:
        async with asyncio.timeout(8):
            asked = (await customer.RequestHandoff(handoff(session))).session
        assert (asked.state, asked.queue_position) == (session_pb2.SESSION_STATE_WAITING, 1)
        async with asyncio.timeout(8):
            assert (await agent.SetAgentStatus(available())).agent.status == session_pb2.AGENT_STATUS_AVAILABLE
    finally:
        migrated.valkey.resume()

    async def offered() -> bool:
        return [one.id for one in (await agent.ListOpenSessions(pb.ListOpenSessionsRequest())).sessions] == [session.id]

    await eventually(offered, "the session is offered as soon as Valkey answers")


async def test_a_frozen_database_is_told_in_time_and_nothing_is_lost(
    running: Service, migrated: Platform, tenant: str
) -> None:
    customer = running.customer(tenant, 1)
    session = await opened(customer)
    migrated.postgres.pause()
    try:
        async with asyncio.timeout(30):
            refused = await refusal(customer.RequestHandoff(handoff(session), timeout=3))
        # The service says so itself, before the caller's deadline.
        assert refused.reason == errors.REASON_UNAVAILABLE
    finally:
        migrated.postgres.resume()

    async def asked() -> bool:
        try:
            now = (await customer.RequestHandoff(handoff(session))).session
        except Refused:
            return False
        return bool(now.state == session_pb2.SESSION_STATE_WAITING)

    await eventually(asked, "a person can be asked for again")
