"""No task of chat dies silently: what depends on it is made good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2
from octopus.errors.v1 import errors_pb2

from services.chat.background import Background
from services.chat.conversation import Conversation
from services.chat.inbox import Inbox
from services.chat.servicer import ChatServicer
from services.chat.streams import Streams
from services.chat.tests.fakes import connection, shown

pytestmark = pytest.mark.unit


async def test_a_task_that_fails_calls_for_help_and_one_that_is_cancelled_does_not() -> None:
    background = Background()
    called: list[str] = []

    async def fail() -> None:
        raise RuntimeError("an error of ours")

    failing = background.spawn(fail(), name="fails", on_failure=lambda: called.append("fails"))
    waiting = background.spawn(asyncio.sleep(60), name="waits", on_failure=lambda: called.append("waits"))
    await asyncio.wait([failing])
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0)
    assert called == ["fails"]
    assert not background._tasks


async def test_a_reader_that_fails_ends_its_stream_so_that_the_client_connects_again() -> None:
    async def requests() -> AsyncIterator[chat_service_pb2.ConverseRequest]:
        yield chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(ping=frame_pb2.Ping(nonce=1))])
        raise RuntimeError("an error of ours")

    class Taking:
        def take(self, request: Any, stream: Any, inbox: Inbox) -> None:
            stream.push(frame_pb2.ServerFrame(pong=frame_pb2.Pong(nonce=request.frames[0].ping.nonce)))

    async def answer(frame: frame_pb2.ClientFrame) -> None: ...

    servicer = ChatServicer(cast(Streams, Taking()), cast(Conversation, None))
    stream = connection(11)
    await servicer._read((), requests(), stream, Inbox(answer))
    pong, goodbye = shown(stream)
    assert pong.pong.nonce == 1
    assert goodbye.goodbye.reason == errors_pb2.REASON_INTERNAL
    assert goodbye.goodbye.HasField("reconnect_after")
