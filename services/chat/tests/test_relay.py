"""Many conversations on one stream of a bridge: each keeps the rules of `Converse`, and none holds up another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2, relay_pb2, relay_service_pb2, relay_service_pb2_grpc
from octopus.errors.v1 import errors_pb2
from octopus.user.v1 import user_events_pb2

from mesh.errors import from_rpc_error
from mesh.rpc.metadata import INSTANCE, with_token
from mesh.testing import Platform
from mesh.testing.rpc import dialling
from services.chat.relay import WINDOW
from services.chat.tests.conftest import TENANT, Chat, running, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT = 11, 22


class Bridge:
    """One stream to an instance, and what has come on it."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.frames: dict[int, list[frame_pb2.ServerFrame]] = defaultdict(list)
        self.bytes: dict[int, int] = defaultdict(int)
        self.closed: dict[int, errors_pb2.Reason.ValueType] = {}
        self.taken: dict[int, int] = defaultdict(int)
        self.draining = False
        self.responses = 0
        self.ended = False
        # Conversations whose clients do not read.
        self.slow: set[int] = set()
        self._news = asyncio.Condition()
        self._turn = asyncio.Lock()

    async def read(self) -> None:
        """Collect what comes; says at once that it has been taken."""
        try:
            async for response in self.call:
                self.responses += 1
                self.draining |= response.draining
                for item in response.items:
                    await self._take(item)
                async with self._news:
                    self._news.notify_all()
        except grpc.aio.AioRpcError:
            pass
        async with self._news:
            self.ended = True
            self._news.notify_all()

    async def _take(self, item: relay_pb2.ToClient) -> None:
        match item.WhichOneof("item"):
            case "message":
                self.frames[item.connection] += chat_service_pb2.ConverseResponse.FromString(item.message).frames
                self.bytes[item.connection] += len(item.message)
                if item.connection not in self.slow:
                    # The stream may have ended meanwhile; what it brought before is read all the same.
                    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                        await self.say(item.connection, taken=len(item.message))
            case "taken":
                self.taken[item.connection] += item.taken
            case "closed":
                assert item.connection not in self.closed
                self.closed[item.connection] = item.closed.reason

    async def say(self, connection: int, **item: Any) -> None:
        """Say one thing about a conversation."""
        request = relay_service_pb2.RelayRequest(items=[relay_pb2.FromClient(connection=connection, **item)])
        # gRPC takes one message at a time: a second writer that does not wait may wait for ever.
        async with self._turn:
            await self.call.write(request)

    async def send(self, connection: int, *frames: frame_pb2.ClientFrame) -> None:
        """Pass on a message of a client."""
        await self.say(connection, message=chat_service_pb2.ConverseRequest(frames=frames).SerializeToString())

    async def open(self, connection: int, token: str, *frames: frame_pb2.ClientFrame) -> None:
        """Open a conversation with a hello."""
        await self.say(connection, open=relay_pb2.RelayOpen(access_token=token))
        await self.send(connection, frame_pb2.ClientFrame(hello=frame_pb2.Hello()), *frames)

    async def next(self, connection: int, kind: str, count: int = 1) -> list[Any]:
        """Wait for so many frames of a kind in a conversation."""
        await self.until(lambda: len(self.of(connection, kind)) >= count)
        return self.of(connection, kind)

    def of(self, connection: int, kind: str) -> list[Any]:
        """Return the frames of a kind in a conversation."""
        return [getattr(f, kind) for f in self.frames[connection] if f.WhichOneof("frame") == kind]

    async def until(self, condition: Any) -> None:
        """Wait until something is true of what has come."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)


@asynccontextmanager
async def bridging(chat: Chat, instance: int = 0) -> AsyncIterator[Bridge]:
    async with dialling(chat.platform.identity, "bridge", "chat", chat.addresses[instance]) as channel:
        bridge = Bridge(relay_service_pb2_grpc.RelayServiceStub(channel).Relay())
        reading = asyncio.create_task(bridge.read())
        try:
            yield bridge
        finally:
            bridge.call.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def post(session_id: int, words: str) -> frame_pb2.ClientFrame:
    return frame_pb2.ClientFrame(post=text(session_id, words))


async def test_conversations_of_many_people_share_a_stream(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    async with bridging(chat) as bridge:
        assert (INSTANCE, "chat-1") in tuple(await bridge.call.initial_metadata())
        await bridge.open(1, chat.token(CUSTOMER), post(session.id, "with the hello"))
        await bridge.open(2, chat.token(AGENT, "AGENT"))
        await bridge.next(1, "welcome")
        (ack,) = await bridge.next(1, "ack")
        assert bridge.frames[1][0].HasField("welcome")
        assert (await bridge.next(2, "message"))[0].id == ack.message_id
        await bridge.send(2, post(session.id, "and back"))
        assert (await bridge.next(1, "message"))[0].content.text.text == "and back"
        assert not bridge.of(1, "typing")
        await bridge.say(1, gone=relay_pb2.RelayGone())
        await bridge.send(2, post(session.id, "nobody hears"))
        await bridge.next(2, "ack", 2)
        assert len(bridge.of(1, "message")) == 1


async def test_each_conversation_is_admitted_by_the_rules_of_converse(chat: Chat) -> None:
    good = chat.token(CUSTOMER)
    refused = {
        2: ("", errors_pb2.REASON_TOKEN_MISSING),
        3: ("no.token.atall", errors_pb2.REASON_TOKEN_INVALID),
        4: (chat.token(CUSTOMER, lifetime=-60), errors_pb2.REASON_TOKEN_EXPIRED),
        5: (chat.token(CUSTOMER, "KNOWLEDGE_ADMIN"), errors_pb2.REASON_ROLE_NOT_ALLOWED),
        6: (chat.token(CUSTOMER, "SERVICE"), errors_pb2.REASON_ROLE_NOT_ALLOWED),
    }
    async with bridging(chat) as bridge:
        await bridge.open(1, good)
        for number, (token, _) in refused.items():
            await bridge.open(number, token)
        await bridge.say(7, open=relay_pb2.RelayOpen(access_token=good))
        await bridge.send(7, frame_pb2.ClientFrame(ping=frame_pb2.Ping()))
        await bridge.say(8, open=relay_pb2.RelayOpen(access_token=good))
        await bridge.say(8, message=b"\xff\xff")
        await bridge.until(lambda: len(bridge.closed) == len(refused) + 2)
        assert {number: bridge.closed[number] for number in refused} == {
            n: reason for n, (_, reason) in refused.items()
        }
        assert bridge.closed[7] == errors_pb2.REASON_PROTOCOL
        assert bridge.closed[8] == errors_pb2.REASON_INVALID_ARGUMENT
        await bridge.next(1, "welcome")
        assert 1 not in bridge.closed


@pytest.mark.parametrize("caller", ["edge", "bot", "session"])
async def test_only_a_bridge_may_relay(chat: Chat, caller: str) -> None:
    async with dialling(chat.platform.identity, caller, "chat", chat.addresses[0]) as channel:
        call = relay_service_pb2_grpc.RelayServiceStub(channel).Relay(metadata=with_token(chat.token(CUSTOMER)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert from_rpc_error(refused.value).reason == errors_pb2.REASON_CALLER_NOT_ALLOWED


async def test_bad_bytes_cost_one_answer_and_nobody_elses_conversation(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    async with bridging(chat) as bridge:
        await bridge.open(1, chat.token(CUSTOMER))
        await bridge.open(2, chat.token(AGENT, "AGENT"))
        await bridge.say(1, message=b"\xff\xff")
        await bridge.send(1, frame_pb2.ClientFrame(post=frame_pb2.PostMessage(session_id=-1)))
        refusals = await bridge.next(1, "refusal", 2)
        assert {refusal.reason for refusal in refusals} == {errors_pb2.REASON_INVALID_ARGUMENT}
        await bridge.send(1, post(session.id, "still here"))
        await bridge.next(2, "message")
        assert not bridge.closed


async def test_a_slow_reader_is_cut_off_and_holds_up_nobody(platform: Platform) -> None:
    async with running(platform, rate_burst=10_000, rate_per_second=10_000) as chat, bridging(chat) as bridge:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        bridge.slow.add(1)
        await bridge.open(1, chat.token(CUSTOMER))
        await bridge.open(2, chat.token(AGENT, "AGENT"))
        await bridge.next(1, "welcome")
        words = "长" * 2600
        sent = 0
        # At once when it is followed live, and within 20 s when it was still catching up.
        async with asyncio.timeout(60):
            while 1 not in bridge.closed:
                await bridge.send(2, *(post(session.id, words) for _ in range(8)))
                sent += 8
                await bridge.next(2, "ack", sent)
        assert bridge.closed[1] == errors_pb2.REASON_SLOW_READER
        assert bridge.bytes[1] < 2 * WINDOW


async def test_a_client_that_sends_more_than_its_window_is_told_when_there_is_room(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    async with bridging(chat) as bridge:
        await bridge.open(1, chat.token(CUSTOMER))
        for _ in range(12):
            await bridge.send(1, post(session.id, "长" * 2600))
        await bridge.next(1, "ack", 12)
        await bridge.until(lambda: bridge.taken[1] >= WINDOW // 4)


async def test_a_request_for_a_sign_of_life_is_answered(chat: Chat) -> None:
    async with bridging(chat) as bridge:
        await bridge.call.write(relay_service_pb2.RelayRequest())
        await bridge.until(lambda: bridge.responses == 1)


async def test_a_stopping_instance_ends_its_conversations_and_then_the_stream(chat: Chat) -> None:
    async with bridging(chat) as bridge:
        await bridge.open(1, chat.token(CUSTOMER))
        await bridge.next(1, "welcome")
        chat.streams[0].drain()
        chat.relays[0].drain()
        await bridge.until(lambda: bridge.ended)
        assert bridge.draining
        assert bridge.closed == {1: errors_pb2.REASON_UNAVAILABLE}
        assert bridge.of(1, "goodbye")[0].HasField("reconnect_after")


async def test_nothing_is_left_of_a_bridge_that_has_gone(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
    async with bridging(chat) as bridge:
        for number in range(1, 21):
            await bridge.open(number, chat.token(CUSTOMER), post(session.id, f"number {number}"))
        await bridge.next(20, "welcome")
    async with asyncio.timeout(30):
        while chat.registries[0].connections:
            await asyncio.sleep(0.01)


async def test_a_conversation_ends_with_its_token(platform: Platform) -> None:
    async with running(platform, heartbeat_s=1) as chat, bridging(chat) as bridge:
        await bridge.open(1, chat.token(CUSTOMER, lifetime=2))
        await bridge.open(2, chat.token(CUSTOMER))
        await bridge.until(lambda: 1 in bridge.closed)
        assert bridge.closed == {1: errors_pb2.REASON_TOKEN_EXPIRED}
        assert bridge.of(1, "goodbye")


async def test_a_silent_client_is_asked_and_then_cut_off(platform: Platform) -> None:
    async with running(platform, heartbeat_s=0.3) as chat, bridging(chat) as bridge:
        await bridge.open(1, chat.token(CUSTOMER))
        await bridge.until(lambda: 1 in bridge.closed)
        assert bridge.of(1, "ping")
        assert bridge.closed == {1: errors_pb2.REASON_HEARTBEAT_MISSED}


async def test_who_is_disabled_says_nothing_more_and_is_cut_off_even_when_they_do_not_read(platform: Platform) -> None:
    async with running(platform, rate_burst=10_000, rate_per_second=10_000) as chat, bridging(chat) as bridge:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        bridge.slow.add(1)
        await bridge.open(1, chat.token(AGENT, "AGENT"))
        await bridge.open(2, chat.token(CUSTOMER))
        await bridge.next(1, "welcome")
        sent = 0
        while bridge.bytes[1] < WINDOW:
            # More than the agent's window holds, so that a goodbye would have to wait.
            await bridge.send(2, *(post(session.id, "长" * 2600) for _ in range(8)))
            sent += 8
            await bridge.next(2, "ack", sent)
        await bridge.send(2, post(session.id, "and one that waits"))
        await bridge.next(2, "ack", sent + 1)
        revocation = user_events_pb2.Revocation(generation=1, cause=user_events_pb2.LOG_OUT_CAUSE_DISABLED)
        revocation.revoked_at.GetCurrentTime()
        chat.revocations.take(f"{TENANT}.{AGENT}", revocation.SerializeToString())
        await bridge.send(1, post(session.id, "not any more"))
        await bridge.until(lambda: 1 in bridge.closed)
        assert bridge.closed[1] == errors_pb2.REASON_DISABLED
        await bridge.open(3, chat.token(AGENT, "AGENT"))
        await bridge.until(lambda: 3 in bridge.closed)
        assert bridge.closed[3] == errors_pb2.REASON_DISABLED
        assert not [message for message in bridge.of(2, "message") if message.content.text.text == "not any more"]


async def test_a_silent_conversation_costs_few_objects_and_no_task(chat: Chat) -> None:
    async with bridging(chat) as bridge:
        for number in range(1, 6):
            chat.sessions.open(number)
            await bridge.open(number, chat.token(number))
            await bridge.next(number, "welcome")
        await asyncio.sleep(0)
        before = len(asyncio.all_tasks())
        tracemalloc.start()
        try:
            begun = tracemalloc.take_snapshot()
            for number in range(101, 151):
                chat.sessions.open(number)
                await bridge.open(number, chat.token(number))
                await bridge.next(number, "welcome")
            gc.collect()
            grown = tracemalloc.take_snapshot().compare_to(begun, "filename")
        finally:
            tracemalloc.stop()
        # The test's own frames and tokens count, too.
        assert sum(each.size_diff for each in grown) / 50 < 16_000
        async with asyncio.timeout(30):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.05)
