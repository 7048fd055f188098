"""Who is disabled, logs out everywhere or changes the password is out everywhere, on every way in, within moments."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from octopus.archive.v1 import archive_service_pb2, archive_service_pb2_grpc
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.user.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    user_pb2,
    user_service_pb2,
    user_service_pb2_grpc,
)
from websockets.exceptions import ConnectionClosedError

from e2e.clients import edge as way_in
from e2e.clients.edge import Identity
from e2e.clients.transports import Grpc, WebSocket
from e2e.people import Shop
from mesh.errors import from_rpc_error

pytestmark = pytest.mark.e2e

# Promised are 2 seconds; a machine on which everything runs at once may take twice as long.
WITHIN_S = 4.0
PASSWORD = "a long password of the new agent"  # of an account that only this test has


@pytest.fixture
async def agent(qingshan: Shop) -> tuple[Identity, str]:
    """A member of staff whom no other test knows, and the log-in name."""
    login = f"agent-{secrets.token_hex(4)}"
    admin = await qingshan.staff(qingshan.who_is("ADMIN"))
    await user_service_pb2_grpc.UserServiceStub(qingshan.channel).CreateUser(
        user_service_pb2.CreateUserRequest(
            request_id=f"request-{login}",
            kind=user_pb2.USER_KIND_STAFF,
            external_id=login,
            display_name="小新",
            roles=[options_pb2.ROLE_AGENT],
            password=PASSWORD,
        ),
        metadata=admin.metadata,
    )
    return await way_in.staff(qingshan.channel, qingshan.tenant_id, login, PASSWORD), login


async def ending(frames: AsyncIterator[frame_pb2.ServerFrame]) -> int:
    """Return the reason of a stream's goodbye."""
    reason = 0
    # A WebSocket's close code says the reason too.
    with contextlib.suppress(ConnectionClosedError):
        async for frame in frames:
            if frame.HasField("goodbye"):
                reason = frame.goodbye.reason
    return reason


async def subscribed(shop: Shop, who: Identity) -> AsyncIterator[frame_pb2.ServerFrame]:
    """Hear the server's half, as a browser without WebSockets does."""
    request = chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello())
    async for response in chat_service_pb2_grpc.ChatServiceStub(shop.channel).Subscribe(request, metadata=who.metadata):
        for frame in response.frames:
            yield frame


async def reason_of(call: Awaitable[Any]) -> int:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return from_rpc_error(error.value).reason


async def everything_ends(shop: Shop, agent: Identity, act: Callable[[], Awaitable[Any]], reason: int) -> None:
    """Do something while the agent is connected in every way, and look at what is left to them afterwards."""
    async with AsyncExitStack() as stack:
        ways = (
            Grpc(shop.edge),
            Grpc(shop.edge, own_connection=True),
            WebSocket(shop.edge),
            WebSocket(shop.edge, json=True),
        )
        streams = [await stack.enter_async_context(way.open(agent, frame_pb2.Hello())) for way in ways]
        heard = [*(stream.frames() for stream in streams), subscribed(shop, agent)]
        for frames in heard:
            assert (await anext(frames)).HasField("welcome")
        ends = [asyncio.create_task(ending(frames)) for frames in heard]
        await act()
        began = time.monotonic()
        assert await asyncio.gather(*ends) == [reason] * len(ends)
        assert time.monotonic() - began < WITHIN_S
    sessions = shop.sessions
    archive = archive_service_pb2_grpc.ArchiveServiceStub(shop.channel)
    users = user_service_pb2_grpc.UserServiceStub(shop.channel)
    chat = chat_service_pb2_grpc.ChatServiceStub(shop.channel)
    me = agent.metadata
    for call in (
        sessions.GetAgent(session_service_pb2.GetAgentRequest(), metadata=me),
        sessions.SetAgentStatus(
            session_service_pb2.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AVAILABLE), metadata=me
        ),
        archive.ListMessages(archive_service_pb2.ListMessagesRequest(session_id=1), metadata=me),
        users.GetMe(user_service_pb2.GetMeRequest(), metadata=me),
        chat.Send(chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=1)), metadata=me),
    ):
        assert await reason_of(call) == reason


async def test_a_disabled_agent_is_out_everywhere_within_two_seconds(
    qingshan: Shop, agent: tuple[Identity, str]
) -> None:
    identity, login = agent
    admin = await qingshan.staff(qingshan.who_is("ADMIN"))

    async def disable() -> None:
        await user_service_pb2_grpc.UserServiceStub(qingshan.channel).UpdateUser(
            user_service_pb2.UpdateUserRequest(user_id=identity.user_id, disabled=True), metadata=admin.metadata
        )

    await everything_ends(qingshan, identity, disable, errors_pb2.REASON_DISABLED)
    again = auth_service_pb2.LogInRequest(tenant_id=qingshan.tenant_id, login=login, password=PASSWORD)
    auth = auth_service_pb2_grpc.AuthServiceStub(qingshan.channel)
    assert await reason_of(auth.LogIn(again)) == errors_pb2.REASON_DISABLED


async def test_who_logs_out_everywhere_is_out_on_every_device_and_can_come_back(
    qingshan: Shop, agent: tuple[Identity, str]
) -> None:
    identity, login = agent

    async def leave() -> None:
        await auth_service_pb2_grpc.AuthServiceStub(qingshan.channel).LogOutEverywhere(
            auth_service_pb2.LogOutEverywhereRequest(), metadata=identity.metadata
        )

    await everything_ends(qingshan, identity, leave, errors_pb2.REASON_TOKEN_REVOKED)
    again = await way_in.staff(qingshan.channel, qingshan.tenant_id, login, PASSWORD)
    async with qingshan.present(again):
        pass


async def test_a_new_password_ends_every_session_but_the_one_it_was_changed_in(
    qingshan: Shop, agent: tuple[Identity, str]
) -> None:
    identity, _ = agent
    tokens: list[auth_service_pb2.TokenPair] = []

    async def change() -> None:
        answer = await auth_service_pb2_grpc.AuthServiceStub(qingshan.channel).ChangePassword(
            auth_service_pb2.ChangePasswordRequest(old_password=PASSWORD, new_password=f"{PASSWORD} 2"),
            metadata=identity.metadata,
        )
        tokens.append(answer.tokens)

    await everything_ends(qingshan, identity, change, errors_pb2.REASON_TOKEN_REVOKED)
    metadata = (("authorization", f"Bearer {tokens[0].access_token}"),)
    me = await user_service_pb2_grpc.UserServiceStub(qingshan.channel).GetMe(
        user_service_pb2.GetMeRequest(), metadata=metadata
    )
    assert me.user.id == identity.user_id
