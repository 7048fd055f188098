"""A small mesh without components: certificates for everybody, a signing key, and a chat servicer to talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2

from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.rpc.validation import Invalid, takes_invalid
from mesh.testing.rpc import Keys, dialling, serving

Send = Callable[[chat_service_pb2.SendRequest], Awaitable[chat_service_pb2.SendResponse]]


class Chat(chat_service_pb2_grpc.ChatServiceServicer):
    """Answers as a test wants it to."""

    def __init__(self) -> None:
        self.send: Send = self._acknowledge
        # A test awaits it to know that a call has arrived.
        self.arrived = asyncio.Event()
        self.cleaned_up = asyncio.Event()

    async def _acknowledge(self, request: chat_service_pb2.SendRequest) -> chat_service_pb2.SendResponse:
        return chat_service_pb2.SendResponse(ack=frame_pb2.Ack(session_id=request.post.session_id))

    async def Send(self, request: chat_service_pb2.SendRequest, context: Any) -> chat_service_pb2.SendResponse:
        self.arrived.set()
        return await self.send(request)

    async def Subscribe(
        self, request: chat_service_pb2.SubscribeRequest, context: Any
    ) -> AsyncIterator[chat_service_pb2.SubscribeResponse]:
        self.arrived.set()
        try:
            for number in range(1_000_000):
                yield chat_service_pb2.SubscribeResponse(
                    frames=[frame_pb2.ServerFrame(ping=frame_pb2.Ping(nonce=number))]
                )
                if number == 2:
                    await asyncio.Event().wait()
        finally:
            self.cleaned_up.set()

    @takes_invalid
    async def Converse(
        self, request_iterator: AsyncIterator[chat_service_pb2.ConverseRequest | Invalid], context: Any
    ) -> AsyncIterator[chat_service_pb2.ConverseResponse]:
        async for request in request_iterator:
            frame = frame_pb2.ServerFrame()
            if isinstance(request, Invalid):
                refused = request.refused()
                frame.refusal.reason = refused.reason
                frame.refusal.description = refused.description
            else:
                frame.pong.nonce = request.frames[0].ping.nonce
            yield chat_service_pb2.ConverseResponse(frames=[frame])


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with everyone's certificate."""
    folder = tmp_path_factory.mktemp("identity")
    authority = Authority(folder)
    for name in names.everybody():
        authority.issue(name)
    return folder


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.fixture
async def address(identity: Path, keys: Keys, chat: Chat) -> AsyncIterator[str]:
    """Where the chat servicer is served."""
    add = partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat)
    async with serving(identity, "chat", keys, add) as at:
        yield at


@pytest.fixture
def as_caller(identity: Path, address: str) -> Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]]:
    """A channel to the chat servicer, as the member of that name."""
    return lambda caller: dialling(identity, caller, "chat", address)


@pytest.fixture
async def channel(identity: Path, address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the chat servicer, as the edge."""
    async with dialling(identity, "edge", "chat", address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> chat_service_pb2_grpc.ChatServiceStub:
    """The chat service, as the edge sees it."""
    return chat_service_pb2_grpc.ChatServiceStub(channel)
