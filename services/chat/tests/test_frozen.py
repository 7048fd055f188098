"""Valkey frozen or gone: people connect and talk as always, only receipts are not kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from octopus.chat.v1 import frame_pb2

from mesh.testing import Platform
from services.chat.tests.conftest import Chat, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT = 41, 42
# Half a second for each receipt would be twelve in all.
MESSAGES = 25


@asynccontextmanager
async def frozen(platform: Platform) -> AsyncIterator[None]:
    platform.valkey.pause()
    try:
        yield
    finally:
        platform.valkey.resume()


@asynccontextmanager
async def killed(platform: Platform) -> AsyncIterator[None]:
    await platform.valkey.kill()
    try:
        yield
    finally:
        await platform.valkey.start()


@pytest.mark.parametrize("fault", [frozen, killed])
async def test_without_valkey_people_connect_and_talk(
    chat: Chat, fault: Callable[[Platform], AbstractAsyncContextManager[None]]
) -> None:
    sessions = [chat.sessions.open(CUSTOMER + 100 * n, AGENT, "ACTIVE") for n in range(20)]
    first = sessions[0]
    async with fault(chat.platform):
        # One look for all twenty sessions, not one after the other.
        async with asyncio.timeout(6):
            agent, customer = await chat.converse(AGENT, "AGENT"), await chat.converse(CUSTOMER)
        assert len((await agent.next("welcome"))[0].sessions) == 20
        async with asyncio.timeout(8):
            for number in range(MESSAGES):
                await customer.send(post=text(first.id, str(number)))
                # A page reports how far it has read after every message; the next one must not wait for that.
                await customer.send(receipt=frame_pb2.Receipt(session_id=first.id, read_seq=number + 1))
            assert len(await customer.next("ack", MESSAGES)) == MESSAGES
            assert [message.content.text.text for message in await agent.next("message", MESSAGES)] == [
                str(number) for number in range(MESSAGES)
            ]
            assert len(await agent.next("receipt", MESSAGES)) == MESSAGES

    async def kept() -> bool:
        await customer.send(receipt=frame_pb2.Receipt(session_id=first.id, read_seq=20))
        late = await chat.converse(AGENT, "AGENT")
        (welcome,) = await late.next("welcome")
        return [receipt.read_seq for receipt in welcome.receipts if receipt.session_id == first.id] == [20]

    async with asyncio.timeout(30):
        while not await kept():
            await asyncio.sleep(0.1)
