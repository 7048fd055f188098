"""Who sees a session: one rule, whoever asks and by whatever call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.user.v1 import user_service_pb2, user_service_pb2_grpc

from e2e.clients.edge import Identity
from e2e.clients.participant import Participant
from e2e.people import Shop
from e2e.running import Octopus
from mesh.errors import from_rpc_error

pytestmark = pytest.mark.e2e

AVAILABLE, AWAY = session_pb2.AGENT_STATUS_AVAILABLE, session_pb2.AGENT_STATUS_AWAY


class Readers:
    """All ways in which a session can be read, or taken part in."""

    def __init__(self, shop: Shop, session: session_pb2.Session) -> None:
        self._sessions = shop.sessions
        self._archive = archive_service_pb2_grpc.ArchiveServiceStub(shop.channel)
        self._chat = chat_service_pb2_grpc.ChatServiceStub(shop.channel)
        self._session = session

    async def sees(self, who: Identity) -> bool:
        """Return whether a person sees the session; fails when the readers do not agree."""
        answers = {
            "GetSession": await _found(
                self._sessions.GetSession(
                    session_service_pb2.GetSessionRequest(session_id=self._session.id), metadata=who.metadata
                )
            ),
            "ListMessages": await _found(
                self._archive.ListMessages(
                    archive_service_pb2.ListMessagesRequest(session_id=self._session.id), metadata=who.metadata
                )
            ),
        }
        page = await self._sessions.ListSessions(
            session_service_pb2.ListSessionsRequest(customer_id=self._session.customer_id), metadata=who.metadata
        )
        answers["ListSessions"] = self._session.id in [each.id for each in page.sessions]
        assert len(set(answers.values())) == 1, answers
        return answers["GetSession"]

    async def takes_part(self, who: Identity) -> bool:
        """Return whether a person may follow the session and send signs; fails when the ways do not agree."""
        typing = frame_pb2.Typing(session_id=self._session.id)
        receipt = frame_pb2.Receipt(session_id=self._session.id, read_seq=1)
        answers = {
            "typing": await self._sends(who, typing=typing),
            "receipt": await self._sends(who, receipt=receipt),
            "cursor": await self._follows(who),
        }
        assert len(set(answers.values())) == 1, answers
        return answers["typing"]

    async def _sends(self, who: Identity, **action: Any) -> bool:
        return await _found(self._chat.Send(chat_service_pb2.SendRequest(**action), metadata=who.metadata))

    async def _follows(self, who: Identity) -> bool:
        hello = frame_pb2.Hello(cursors=[frame_pb2.Cursor(session_id=self._session.id, seq=1)])
        call = self._chat.Subscribe(chat_service_pb2.SubscribeRequest(hello=hello), metadata=who.metadata, timeout=10)
        try:
            async for response in call:
                for frame in response.frames:
                    if frame.HasField("refusal"):
                        assert frame.refusal.reason == errors_pb2.REASON_NOT_FOUND
                        return False
                    if frame.HasField("message"):
                        return True
        finally:
            call.cancel()
        raise AssertionError("the stream ended without an answer")


async def _found(call: Awaitable[object]) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refused = from_rpc_error(error)
        if refused.reason != errors_pb2.REASON_NOT_FOUND:
            raise
        return False
    return True


@asynccontextmanager
async def disabled(shop: Shop, agent: Identity, login: str) -> AsyncIterator[None]:
    """Disable an agent until the block ends. The agent has to log in anew."""
    users = user_service_pb2_grpc.UserServiceStub(shop.channel)
    admin = await shop.staff(shop.who_is("ADMIN"))

    async def set_disabled(value: bool) -> None:
        await users.UpdateUser(
            user_service_pb2.UpdateUserRequest(user_id=agent.user_id, disabled=value), metadata=admin.metadata
        )

    await set_disabled(True)
    try:
        yield
    finally:
        await set_disabled(False)
        shop.forget_log_in(login)


async def test_every_reader_keeps_one_rule_through_the_life_of_a_session(octopus: Octopus, qingshan: Shop) -> None:
    first, second, third = qingshan.agents[:3]
    earlier, now, other = [await qingshan.staff(login) for login in (first, second, third)]
    supervisor, admin = [await qingshan.staff(qingshan.who_is(role)) for role in ("SUPERVISOR", "ADMIN")]
    customer, stranger = await qingshan.customer("王小明"), await qingshan.customer("李四")
    elsewhere = Shop("xinghe", octopus.logins()["xinghe"], octopus.edge, qingshan.channel)
    foreigners = [await elsewhere.staff(elsewhere.agents[0]), await elsewhere.staff(elsewhere.who_is("SUPERVISOR"))]

    session = await qingshan.open_session(customer)
    readers = Readers(qingshan, session)

    async def nobody_else(*strangers: Identity) -> None:
        for each in strangers:
            assert not await readers.sees(each)
            assert not await readers.takes_part(each)
        for each in foreigners:
            assert not await readers.sees(each)
        assert not await readers.sees(stranger)
        assert not await readers.takes_part(stranger)

    async def overseers() -> None:
        for each in (supervisor, admin):
            assert await readers.sees(each)
        # To see is less than to take part.
        assert not await readers.takes_part(supervisor)

    async with qingshan.present(customer) as shopper:
        await shopper.say(session.id, "我的订单 20261125 到哪了")
        # With the bot: no agent.
        await nobody_else(earlier, now, other)
        assert await readers.sees(customer)
        assert await readers.takes_part(customer)
        await overseers()

        # Waiting: every agent sees who waits, and none takes part.
        await qingshan.ask_for_a_person(customer, session.id)
        for agent in (earlier, now, other):
            assert await readers.sees(agent)
            assert not await readers.takes_part(agent)

        # Offered, then accepted: one agent.
        await qingshan.set_status(earlier, AVAILABLE)
        await shopper.until(_is(session, session_pb2.SESSION_STATE_ASSIGNED))
        assert await readers.sees(earlier)
        await nobody_else(now, other)
        await qingshan.accept(earlier, session.id)
        assert await readers.takes_part(earlier)
        await nobody_else(now, other)
        await overseers()

        await _loses_people_when_disabled(qingshan, first, shopper, session)
        earlier = await qingshan.staff(first)

        # With another agent: the earlier one still reads what was said, and takes no part.
        await qingshan.set_status(now, AVAILABLE)
        await shopper.until(_is(session, session_pb2.SESSION_STATE_ASSIGNED))
        await qingshan.accept(now, session.id)
        assert await readers.takes_part(now)
        assert await readers.sees(now)
        assert await readers.sees(earlier)
        assert not await readers.takes_part(earlier)
        await nobody_else(other)
        await qingshan.end(now, session.id)
        for agent in (now, earlier):
            assert await readers.sees(agent)
        await nobody_else(other)
        await overseers()


def _is(session: session_pb2.Session, state: session_pb2.SessionState.ValueType) -> Callable[[Any], bool]:
    return lambda participant: bool(participant.sessions[session.id].state == state)


async def _loses_people_when_disabled(
    shop: Shop, login: str, shopper: Participant, session: session_pb2.Session
) -> None:
    """Disable the agent who talks: the session is in the queue at once, with a change that the customer sees."""
    agent = await shop.staff(login)
    async with disabled(shop, agent, login):
        await shopper.until(_is(session, session_pb2.SESSION_STATE_WAITING), timeout=10)
        await shopper.until(
            lambda p: any(
                m.content.change.previous_state == session_pb2.SESSION_STATE_ACTIVE
                and m.content.change.session.state == session_pb2.SESSION_STATE_WAITING
                for m in p.shown
            ),
            timeout=10,
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shop.set_status(agent, AVAILABLE)
        assert refused.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    assert await shop.status(await shop.staff(login)) == AWAY
