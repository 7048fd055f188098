"""The session service, or its database, is unreachable: people in a session that is known here talk on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import grpc
import pytest

from services.chat.tests.conftest import Chat, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT = 51, 52


@contextmanager
def silent(chat: Chat) -> Iterator[None]:
    """It answers nothing, as while its database's machine is cut off."""
    chat.sessions.answering.clear()
    try:
        yield
    finally:
        chat.sessions.answering.set()


@contextmanager
def away(chat: Chat) -> Iterator[None]:
    """It says that its database is unreachable."""
    chat.sessions.away = True
    try:
        yield
    finally:
        chat.sessions.away = False


@pytest.mark.parametrize("fault", [silent, away])
async def test_people_in_a_known_session_talk_and_reconnect(
    chat: Chat, fault: Callable[[Chat], AbstractContextManager[None]]
) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    ended = chat.sessions.open(CUSTOMER + 1, AGENT, "ENDED")
    customer, agent = await chat.converse(CUSTOMER), await chat.converse(AGENT, "AGENT")
    await customer.send(post=text(session.id, "before"))
    (before,) = await agent.next("message")
    with fault(chat):
        agent.call.cancel()
        await agent.end()
        await customer.send(post=text(session.id, "meanwhile"))
        await customer.next("ack", 2)
        agent = await chat.converse(AGENT, "AGENT", cursors={session.id: before.seq, ended.id: 1})
        assert [each.id for each in (await agent.next("welcome"))[0].sessions] == [session.id]
        assert (await agent.next("message"))[0].content.text.text == "meanwhile"
        await agent.send(post=text(session.id, "back"))
        await agent.next("ack")
        assert (await customer.next("message"))[0].content.text.text == "back"
        # Opened by somebody else meanwhile, and told by a notice that is lost with the database.
        other = chat.sessions.open(CUSTOMER + 2, AGENT, "ACTIVE")

    # The rest is made good: an open session that was not known, and the end of one that the device named.
    updates = await agent.next("session", 2, timeout=20)
    assert {each.session.id for each in updates} >= {session.id, other.id}
    writer = await chat.converse(CUSTOMER + 2)
    await writer.send(post=text(other.id, "hello"))
    await writer.next("ack")
    assert (await agent.next("message", 2))[1].content.text.text == "hello"


async def test_somebody_of_whom_nothing_is_known_here_is_told_to_come_back(chat: Chat) -> None:
    chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    await chat.converse(CUSTOMER)
    with away(chat):
        stranger = await chat.converse(CUSTOMER + 3, read=False)
        await stranger.read()
    assert stranger.error is not None
    assert stranger.error.code() is grpc.StatusCode.UNAVAILABLE
