"""From silence to satisfaction, as people meet it: over mutual TLS, with tokens, on two instances in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from octopus.chat.v1 import message_pb2
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.errors.v1 import errors_pb2 as errors
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.session.v1.session_events_pb2 import SessionEvent, SessionNotice

from mesh.bus import Bus, connect
from mesh.identity.files import Identity
from mesh.rpc.timestamps import to_wire
from mesh.testing import Platform
from services.session.tests.parts import eventually
from services.session.tests.service import Person, Service, refusal, service

pytestmark = pytest.mark.service

pb = session_service_pb2
AGENT, COLLEAGUE, ADMIN = 900, 901, 990
CUSTOMER, PERSON, BOT = (
    message_pb2.SENDER_KIND_CUSTOMER,
    message_pb2.SENDER_KIND_AGENT,
    message_pb2.SENDER_KIND_BOT,
)


@pytest.fixture(scope="module")
async def running(migrated: Platform) -> AsyncIterator[Service]:
    async with service(migrated, silence_every_s=0.1, tell_after_s=0.05) as opened:
        yield opened


@pytest.fixture(scope="module")
async def chat(migrated: Platform) -> AsyncIterator[Bus]:
    identity = Identity(migrated.identity, "chat")
    async with connect(migrated.nats_url, "chat", tls=identity.client_context) as bus:
        yield bus


@dataclass(frozen=True)
class Talk:
    """A chat between a customer and an agent."""

    running: Service
    chat: Bus
    customer: Person
    agent: Person
    session: session_pb2.Session

    async def say(self, kind: message_pb2.SenderKind.ValueType, text: str, **content: Any) -> int:
        now = await self.read(self.agent)
        message_id = f"{self.session.id}-{datetime.now(UTC).timestamp()}"
        entry = LogEntry(
            message=message_pb2.Message(
                id=1,
                session_id=self.session.id,
                sender=message_pb2.Sender(kind=kind, user_id=AGENT if kind == PERSON else 0),
                client_message_id=message_id,
                sent_at=to_wire(datetime.now(UTC)),
                content=message_pb2.Content(**(content or {"text": message_pb2.Text(text=text)})),
            ),
            tenant_id=self.session.tenant_id,
            customer_id=self.session.customer_id,
            session_state=now.state,
        )
        log = f"log.{self.session.tenant_id}.{self.session.id}"
        return (await self.chat.publish(log, entry, message_id=message_id)).seq

    async def read(self, person: Person) -> session_pb2.Session:
        found: session_pb2.Session = (await person.GetSession(pb.GetSessionRequest(session_id=self.session.id))).session
        return found

    async def reaches(self, state: session_pb2.SessionState.ValueType) -> session_pb2.Session:
        async def there() -> bool:
            return (await self.read(self.customer)).state == state

        await eventually(there, f"the session is {session_pb2.SessionState.Name(state)}")
        return await self.read(self.customer)

    async def events(self) -> list[SessionEvent]:
        stored = await self.running.onlooker.read(
            f"event.session.{self.session.tenant_id}.{self.session.id}", after_seq=0, limit=50
        )
        return [SessionEvent.FromString(event.data) for event in stored]


async def talk(running: Service, chat: Bus, tenant: str) -> Talk:
    customer, agent = running.customer(tenant, 1), running.agent(tenant, AGENT)
    await agent.SetAgentStatus(pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AVAILABLE))
    session = (await customer.OpenSession(pb.OpenSessionRequest(channel="web", locale="en"))).session
    await customer.RequestHandoff(
        pb.RequestHandoffRequest(session_id=session.id, reason=session_pb2.HANDOFF_REASON_BUTTON)
    )
    accepted = (await agent.AcceptSession(pb.AcceptSessionRequest(session_id=session.id))).session
    return Talk(running, chat, customer, agent, accepted)


def wanted(remind_s: float, close_s: float) -> pb.UpdateSessionSettingsRequest:
    settings = session_pb2.SessionSettings(
        remind_after=Duration(nanos=int(remind_s * 1e9) % 10**9, seconds=int(remind_s)),
        close_after=Duration(nanos=int(close_s * 1e9) % 10**9, seconds=int(close_s)),
        return_within=Duration(),
        ask_satisfaction=True,
    )
    return pb.UpdateSessionSettingsRequest(settings=settings)


async def test_a_silent_customer_is_reminded_goes_on_and_in_the_end_is_left(
    running: Service, chat: Bus, tenant: str
) -> None:
    admin = running.person(tenant, ADMIN, "ADMIN")
    await admin.UpdateSessionSettings(wanted(0.2, 3600))
    conversation = await talk(running, chat, tenant)
    await conversation.say(CUSTOMER, "Where is my parcel?")
    await conversation.say(PERSON, "Which one?")
    warned = await conversation.reaches(session_pb2.SESSION_STATE_WARNING)
    assert 3500 < warned.closes_at.seconds - datetime.now(UTC).timestamp() <= 3600
    # Whoever answers is ACTIVE again, and the agent owes the next word.
    await conversation.say(CUSTOMER, "The blue one")
    resumed = await conversation.reaches(session_pb2.SESSION_STATE_ACTIVE)
    assert not resumed.HasField("closes_at")
    await admin.UpdateSessionSettings(wanted(0.2, 0.2))
    await conversation.say(PERSON, "It comes tomorrow")
    over = await conversation.reaches(session_pb2.SESSION_STATE_ENDED)
    assert over.end_reason == session_pb2.END_REASON_IDLE
    assert 6.9 * 86400 < over.rate_until.seconds - datetime.now(UTC).timestamp() <= 7 * 86400

    async def told() -> bool:
        return len(await conversation.events()) == 8

    await eventually(told, "all changes are events")
    changes = [event.WhichOneof("change") for event in await conversation.events()]
    assert changes[4:] == ["warned", "resumed", "warned", "ended"]
    entries = await running.onlooker.read(f"log.{tenant}.{over.id}", after_seq=0, limit=50)
    shown = [LogEntry.FromString(entry.data).message.content.change.session.state for entry in entries]
    assert shown.count(session_pb2.SESSION_STATE_WARNING) == 2


async def test_staff_see_what_an_ended_session_was_about_and_its_customer_does_not(
    running: Service, chat: Bus, tenant: str
) -> None:
    conversation = await talk(running, chat, tenant)
    answer = message_pb2.BotAnswer(text="Soon", sources=[message_pb2.Source(title="Delivery")])
    await conversation.say(BOT, "", answer=answer)
    await conversation.say(CUSTOMER, "Where is my parcel?")
    await conversation.say(PERSON, "Which one?")
    await conversation.customer.EndSession(pb.EndSessionRequest(session_id=conversation.session.id))

    async def summarized() -> bool:
        return (await conversation.read(conversation.agent)).HasField("summary")

    await eventually(summarized, "the summary is stored")
    summary = (await conversation.read(conversation.agent)).summary
    assert (summary.opener, summary.topic, list(summary.agent_ids)) == ("Where is my parcel?", "Delivery", [AGENT])
    assert (summary.customer_messages, summary.agent_messages, summary.bot_messages) == (1, 1, 1)
    for span in ("waited", "first_response", "handled"):
        assert summary.HasField(span)
    listed = (await conversation.agent.ListSessions(pb.ListSessionsRequest())).sessions
    assert [session.summary for session in listed] == [summary]
    assert not (await conversation.read(conversation.customer)).HasField("summary")
    # Nothing of it stands in the database in words.
    rows = await running.platform.postgres.execute("SELECT opener FROM cs_session_summary")
    assert all(b"parcel" not in bytes(opener or b"") for (opener,) in rows)


async def test_a_summary_has_no_words_that_were_recalled(running: Service, chat: Bus, tenant: str) -> None:
    conversation = await talk(running, chat, tenant)
    wrong = await conversation.say(CUSTOMER, "My card is 6222 0000")
    await conversation.say(CUSTOMER, "", recall=message_pb2.Recall(target_seq=wrong))
    await conversation.say(CUSTOMER, "Where is my parcel?")
    await conversation.customer.EndSession(pb.EndSessionRequest(session_id=conversation.session.id))

    async def summarized() -> bool:
        return (await conversation.read(conversation.agent)).HasField("summary")

    await eventually(summarized, "the summary is stored")
    assert (await conversation.read(conversation.agent)).summary.opener == "Where is my parcel?"


async def test_a_customer_says_once_how_they_were_served(running: Service, chat: Bus, tenant: str) -> None:
    conversation = await talk(running, chat, tenant)
    session_id = conversation.session.id
    said = pb.RateSessionRequest(session_id=session_id, score=4, comment="很快 👍")
    stranger = running.customer(tenant, 2)
    assert (await refusal(stranger.RateSession(said))).reason == errors.REASON_NOT_FOUND
    assert (await refusal(conversation.agent.RateSession(said))).reason == errors.REASON_ROLE_NOT_ALLOWED
    for score in (0, 6):
        wrong = pb.RateSessionRequest(session_id=session_id, score=score)
        assert (await refusal(conversation.customer.RateSession(wrong))).reason == errors.REASON_INVALID_ARGUMENT
    over = await conversation.customer.EndSession(pb.EndSessionRequest(session_id=session_id))
    first = (await conversation.customer.RateSession(said)).session
    again = (await conversation.customer.RateSession(said)).session
    assert first.satisfaction == again.satisfaction
    assert first.version == again.version == over.session.version + 1
    changed = pb.RateSessionRequest(session_id=session_id, score=1)
    assert (await refusal(conversation.customer.RateSession(changed))).reason == errors.REASON_ALREADY_EXISTS
    for person in (conversation.agent, conversation.customer):
        satisfaction = (await conversation.read(person)).satisfaction
        assert (satisfaction.score, satisfaction.comment) == (4, "很快 👍")

    async def told() -> bool:
        last = await running.onlooker.last(f"notice.{tenant}.{AGENT}")
        return last is not None and SessionNotice.FromString(last.data).session.satisfaction.score == 4

    await eventually(told, "the agent's devices are told")
    rated = [event for event in await conversation.events() if event.WhichOneof("change") == "rated"]
    # Services hear the score; the words are between the people.
    assert [(event.session.satisfaction.score, event.session.satisfaction.comment) for event in rated] == [(4, "")]


async def test_a_session_that_only_the_bot_answered_is_not_rated(running: Service, tenant: str) -> None:
    customer = running.customer(tenant, 1)
    session = (await customer.OpenSession(pb.OpenSessionRequest(channel="web"))).session
    said = pb.RateSessionRequest(session_id=session.id, score=5)
    assert (await refusal(customer.RateSession(said))).reason == errors.REASON_SESSION_STATE


async def test_a_shops_settings_are_its_administrators(running: Service, tenant: str) -> None:
    admin, agent = running.person(tenant, ADMIN, "ADMIN"), running.agent(tenant, AGENT)
    defaults = (await agent.GetSessionSettings(pb.GetSessionSettingsRequest())).settings
    assert (defaults.remind_after.seconds, defaults.close_after.seconds) == (300, 180)
    assert (defaults.return_within.seconds, defaults.ask_satisfaction) == (1800, True)
    for person in (agent, running.person(tenant, 991, "SUPERVISOR"), running.customer(tenant, 1)):
        refused = await refusal(person.UpdateSessionSettings(wanted(60, 60)))
        assert refused.reason == errors.REASON_ROLE_NOT_ALLOWED
    incomplete = pb.UpdateSessionSettingsRequest(settings=session_pb2.SessionSettings(ask_satisfaction=True))
    assert (await refusal(admin.UpdateSessionSettings(incomplete))).reason == errors.REASON_INVALID_ARGUMENT
    negative = wanted(60, 60)
    negative.settings.remind_after.seconds = -1
    assert (await refusal(admin.UpdateSessionSettings(negative))).reason == errors.REASON_INVALID_ARGUMENT
    stored = (await admin.UpdateSessionSettings(wanted(60, 0))).settings
    assert (await agent.GetSessionSettings(pb.GetSessionSettingsRequest())).settings == stored
    # Another shop keeps its own.
    elsewhere = running.agent(f"{tenant}-b", AGENT)
    assert (await elsewhere.GetSessionSettings(pb.GetSessionSettingsRequest())).settings == defaults
