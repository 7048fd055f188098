"""Tokens that were taken back: every call with them is refused, and streams that they opened end."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.user.v1 import user_events_pb2

from mesh.bus.streams import REVOCATION_S
from mesh.errors import Refused, from_rpc_error
from mesh.rpc.metadata import with_token
from mesh.rpc.revocations import Revocations
from mesh.rpc.tests.conftest import Chat
from mesh.testing.rpc import Keys, dialling, serving

pytestmark = pytest.mark.service

ChatStub = chat_service_pb2_grpc.ChatServiceStub
TYPING = chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=5))


def revocation(generation: int, cause: int = user_events_pb2.LOG_OUT_CAUSE_SELF, *, at: float | None = None) -> bytes:
    message = user_events_pb2.Revocation(generation=generation, cause=user_events_pb2.LogOutCause.ValueType(cause))
    if at is None:
        message.revoked_at.GetCurrentTime()
    else:
        message.revoked_at.FromSeconds(int(at))
    return message.SerializeToString()


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


@pytest.fixture
async def stub(identity: Path, keys: Keys, chat: Chat, revocations: Revocations) -> AsyncIterator[ChatStub]:
    add = partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat)
    async with (
        serving(identity, "chat", keys, add, revocations=revocations) as address,
        dialling(identity, "edge", "chat", address) as channel,
    ):
        yield ChatStub(channel)


async def reason_of(stub: ChatStub, token: str) -> int | None:
    try:
        await stub.Send(TYPING, metadata=with_token(token))
    except Refused as refused:
        return refused.reason
    return None


async def test_a_token_that_was_taken_back_is_refused_and_a_newer_one_is_not(
    stub: ChatStub, keys: Keys, revocations: Revocations
) -> None:
    older, newer = keys.token("qingshan", 7, "AGENT", gen=1), keys.token("qingshan", 7, "AGENT", gen=2)
    without = keys.token("qingshan", 7, "AGENT")
    # Verified before, so that it is remembered.
    assert await reason_of(stub, older) is None
    revocations.take("qingshan.7", revocation(2))
    assert await reason_of(stub, older) == errors_pb2.REASON_TOKEN_REVOKED
    assert await reason_of(stub, without) == errors_pb2.REASON_TOKEN_REVOKED
    assert await reason_of(stub, newer) is None
    # The same number in another shop is somebody else.
    assert await reason_of(stub, keys.token("xinghe", 7, "AGENT")) is None
    assert await reason_of(stub, keys.token("qingshan", 77, "AGENT")) is None


async def test_who_is_disabled_is_told_so(stub: ChatStub, keys: Keys, revocations: Revocations) -> None:
    revocations.take("qingshan.7", revocation(1, user_events_pb2.LOG_OUT_CAUSE_DISABLED))
    assert await reason_of(stub, keys.token("qingshan", 7, "AGENT")) == errors_pb2.REASON_DISABLED


async def test_an_older_word_of_it_changes_nothing(stub: ChatStub, keys: Keys, revocations: Revocations) -> None:
    revocations.take("qingshan.7", revocation(3))
    revocations.take("qingshan.7", revocation(1))
    assert await reason_of(stub, keys.token("qingshan", 7, "AGENT", gen=2)) == errors_pb2.REASON_TOKEN_REVOKED


async def test_a_stream_of_any_service_ends_at_once(
    stub: ChatStub, keys: Keys, chat: Chat, revocations: Revocations
) -> None:
    token = keys.token("qingshan", 7, "AGENT")
    ending = stub.Subscribe(chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello()), metadata=with_token(token))
    going_on = stub.Converse(metadata=with_token(keys.token("qingshan", 7, "AGENT", gen=1)))
    for _ in range(3):
        await ending.read()
    revocations.take("qingshan.7", revocation(1))
    async with asyncio.timeout(5):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ending.read()
    assert from_rpc_error(caught.value).reason == errors_pb2.REASON_TOKEN_REVOKED
    async with asyncio.timeout(5):
        await chat.cleaned_up.wait()
    # Opened with a token of the new generation.
    await going_on.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(ping=frame_pb2.Ping(nonce=4))]))
    answer = await going_on.read()
    assert isinstance(answer, chat_service_pb2.ConverseResponse)
    assert answer.frames[0].pong.nonce == 4
    going_on.cancel()


async def test_nobody_comes_in_before_it_is_known_what_was_revoked(
    stub: ChatStub, keys: Keys, revocations: Revocations
) -> None:
    revocations.known = False
    assert await reason_of(stub, keys.token("qingshan", 7, "AGENT")) == errors_pb2.REASON_UNAVAILABLE
    revocations.known = True
    assert await reason_of(stub, keys.token("qingshan", 7, "AGENT")) is None


@pytest.mark.parametrize("gen", ["1", -1, 1.5, None])
async def test_a_generation_that_is_no_number_is_no_token_of_ours(stub: ChatStub, keys: Keys, gen: object) -> None:
    assert await reason_of(stub, keys.token("qingshan", 7, "AGENT", gen=gen)) == errors_pb2.REASON_TOKEN_INVALID


async def test_a_bus_that_lost_its_data_gives_nothing_back_and_old_revocations_are_forgotten() -> None:
    now = 1_000_000.0
    revocations = Revocations(lambda: now)
    revocations.take("qingshan.7", revocation(1, at=now))
    revocations.take("qingshan.7", None)
    with pytest.raises(Refused):
        revocations.check("qingshan", 7, 0)
    now += REVOCATION_S + 1
    revocations.take("qingshan.8", revocation(1, at=now))
    # No token of that generation can be alive.
    revocations.check("qingshan", 7, 0)
    with pytest.raises(Refused):
        revocations.check("qingshan", 8, 0)


@pytest.mark.parametrize(("key", "value"), [("qingshan", b""), ("qingshan.me", b""), ("qingshan.7", b"\xff")])
async def test_what_is_no_revocation_changes_nothing(key: str, value: bytes) -> None:
    revocations = Revocations()
    revocations.take(key, value)
    revocations.check("qingshan", 7, 0)
