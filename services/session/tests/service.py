"""Two instances of the whole service in this process, and clients of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
from octopus.presence.v1 import presence_service_pb2, presence_service_pb2_grpc
from octopus.session.v1.session_service_pb2_grpc import SessionServiceStub
from octopus.user.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc

from mesh.bus import Bus, connect
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.process.member import Member
from mesh.rpc.metadata import as_service, with_token
from mesh.rpc.principal import current
from mesh.testing import Platform
from mesh.testing.ports import free_port
from mesh.testing.rpc import Keys, dialling, serving
from services.session.app import app
from services.session.config import SessionConfig
from services.session.tests.parts import keyring_of


class Users(user_service_pb2_grpc.UserServiceServicer):
    """A user service that knows the capacities it was told."""

    def __init__(self) -> None:
        self.capacities: dict[int, int] = {}
        self.disabled: set[int] = set()

    async def GetUser(
        self, request: user_service_pb2.GetUserRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> user_service_pb2.GetUserResponse:
        if request.user_id not in self.capacities:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return user_service_pb2.GetUserResponse(
            user=user_pb2.User(
                id=request.user_id,
                capacity=self.capacities[request.user_id],
                disabled=request.user_id in self.disabled,
            )
        )


class Presences(presence_service_pb2_grpc.PresenceServiceServicer):
    """A presence service that knows who is offline, and since when: everybody else is online."""

    def __init__(self) -> None:
        # By shop and person, in seconds.
        self.offline_for: dict[tuple[str, int], float] = {}

    async def ListPresence(
        self, request: presence_service_pb2.ListPresenceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> presence_service_pb2.ListPresenceResponse:
        response = presence_service_pb2.ListPresenceResponse()
        for user_id in request.user_ids:
            offline_for = self.offline_for.get((current().tenant_id, user_id))
            presence = response.presences.add(user_id=user_id, online=offline_for is None)
            if offline_for is not None:
                presence.offline_for.FromTimedelta(timedelta(seconds=offline_for))
        return response


@dataclass(frozen=True)
class Person:
    """A person with a token, who calls one instance or the other through the edge."""

    stubs: list[SessionServiceStub]
    metadata: tuple[tuple[str, str], ...]
    calls: list[None] = field(default_factory=list)

    def __getattr__(self, method: str) -> Any:
        self.calls.append(None)
        call = getattr(self.stubs[len(self.calls) % len(self.stubs)], method)
        return lambda request, timeout=10: call(request, metadata=self.metadata, timeout=timeout)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a test works with."""

    platform: Platform
    keys: Keys
    users: Users
    presences: Presences
    addresses: list[str]
    edge: list[SessionServiceStub]
    bot: list[SessionServiceStub]
    # As the user service, which publishes what happens to users.
    bus: Bus
    # As the operator, who may read everything: the service itself hears no notices.
    onlooker: Bus

    def person(self, tenant: str, user_id: int, *roles: str, name: str = "某人", **claims: Any) -> Person:
        return Person(self.edge, with_token(self.keys.token(tenant, user_id, *roles, name=name, **claims)))

    def customer(self, tenant: str, user_id: int) -> Person:
        return self.person(tenant, user_id, "CUSTOMER", name="林小青")

    def agent(self, tenant: str, user_id: int) -> Person:
        return self.person(tenant, user_id, "AGENT", name=f"客服{user_id}")

    def robot(self, tenant: str) -> Person:
        return Person(self.bot, as_service(tenant))


@asynccontextmanager
async def published(platform: Platform, keys: Keys) -> AsyncIterator[Bus]:
    """Publishes the keys of access tokens, as the user service does, and gives its bus."""
    identity = Identity(platform.identity, "user")
    async with connect(platform.nats_url, "user", tls=identity.client_context) as user_bus:
        await user_bus.kv("keys").put("jwks", keys.jwks().encode())
        yield user_bus


@asynccontextmanager
async def looking_on(platform: Platform) -> AsyncIterator[Bus]:
    """Gives the operator's bus."""
    identity = Identity(platform.identity, "operator")
    async with connect(platform.nats_url, "operator", tls=identity.client_context) as bus:
        yield bus


@asynccontextmanager
async def service(platform: Platform, **settings: Any) -> AsyncIterator[Service]:
    """Runs two instances."""
    keys, users, presences = Keys(), Users(), Presences()  # type: ignore[abstract]  # have what is called
    async with AsyncExitStack() as stack:
        user_bus = await stack.enter_async_context(published(platform, keys))
        register = lambda server: user_service_pb2_grpc.add_UserServiceServicer_to_server(users, server)  # noqa: E731
        users_at = await stack.enter_async_context(serving(platform.identity, "user", keys, register))
        add = partial(presence_service_pb2_grpc.add_PresenceServiceServicer_to_server, presences)
        presences_at = await stack.enter_async_context(serving(platform.identity, "presence", keys, add))
        addresses, members = [], []
        for number in (1, 2):
            port = free_port()
            config = platform.config(
                "session",
                SessionConfig,
                instance=f"session-{number}",
                port=port,
                addresses={"user": users_at, "presence": presences_at},
                keyring_file=keyring_of(platform),
                **settings,
            )
            member = await stack.enter_async_context(Member(config))
            await stack.enter_async_context(app(member, config))
            stack.push_async_callback(member.finish)
            members.append(member)
            addresses.append(f"127.0.0.1:{port}")
        stubs = {
            caller: [
                SessionServiceStub(
                    await stack.enter_async_context(dialling(platform.identity, caller, "session", address))
                )
                for address in addresses
            ]
            for caller in ("edge", "bot")
        }
        yield Service(
            platform=platform,
            keys=keys,
            users=users,
            presences=presences,
            addresses=addresses,
            edge=stubs["edge"],
            bot=stubs["bot"],
            bus=user_bus,
            onlooker=await stack.enter_async_context(looking_on(platform)),
        )


async def refusal(call: Any) -> Refused:
    """Awaits a call that must be refused, and gives why."""
    try:
        await call
    except Refused as refused:
        return refused
    raise AssertionError("the call was not refused")
