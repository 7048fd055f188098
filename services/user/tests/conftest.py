"""The user service with real stores: its parts under a clock of the test's, and the whole of it behind its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from octopus.mesh.v1 import registry_pb2
from octopus.user.v1 import auth_service_pb2_grpc, user_service_pb2_grpc

from mesh.process.member import Member
from mesh.stores.keyring import add_key
from mesh.testing import Platform
from mesh.testing.rpc import dialling
from services.user.app import Parts, app, assemble
from services.user.config import UserConfig
from services.user.domain import Kind, Role, Tenant, User
from services.user.people.directory import NewUser

SECRET = b"an identity secret of a shop"
PASSWORD = "correct horse battery"


class Clock:
    """The time, as the test sets it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


@dataclass(frozen=True)
class Shop:
    """A shop of one test."""

    parts: Parts
    tenant_id: str

    async def staff(self, login: str = "xiaolin", *roles: Role, name: str = "小林") -> User:
        """Create a member of staff, an agent unless told otherwise."""
        return await self.parts.directory.create(
            self.tenant_id,
            NewUser(
                request_id=f"request-{self.tenant_id}-{login}",
                kind=Kind.STAFF,
                external_id=login,
                display_name=name,
                roles=roles or (Role.AGENT,),
                password=PASSWORD,
            ),
        )


@pytest.fixture(scope="session")
def config(migrated: Platform, tmp_path_factory: pytest.TempPathFactory) -> UserConfig:
    keyring: Path = tmp_path_factory.mktemp("user") / "user.keyring"
    add_key(keyring)
    return migrated.config("user", UserConfig, keyring_file=keyring)


@pytest.fixture(scope="module")
async def member(config: UserConfig) -> AsyncIterator[Member]:
    async with Member(config) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def parts(member: Member, config: UserConfig, clock: Clock) -> Parts:
    assembled = await assemble(member, config, clock=clock)
    await assembled.keys.turn()
    return assembled


@pytest.fixture
async def shop(parts: Parts) -> Shop:
    """A shop that no other test has."""
    return await open_shop(parts)


async def open_shop(parts: Parts) -> Shop:
    """Add a shop that no other test has."""
    tenant_id = f"user-{parts.sign_in.ids.next()}"
    async with parts.db.tenant(tenant_id) as conn:
        await parts.users.put_tenant(conn, Tenant(tenant_id, "试衣间", "Fitting room", disabled=False), SECRET)
    return Shop(parts, tenant_id)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Return as soon as the condition holds; TimeoutError when it does not within the time."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Served:
    """The service behind its server, and stubs of a caller."""

    parts: Parts
    auth: auth_service_pb2_grpc.AuthServiceStub
    users: user_service_pb2_grpc.UserServiceStub
    address: str


@pytest.fixture(scope="module")
async def served(migrated: Platform, config: UserConfig) -> AsyncIterator[Served]:
    """The whole service, called by the edge."""
    own = config.model_copy(update={"instance": "user-served"})
    async with Member(own) as running, app(running, own):
        entry = await running.bus.kv("registry").get("user.user-served")
        assert entry is not None
        assert entry.value is not None
        address = f"127.0.0.1:{registry_pb2.Instance.FromString(entry.value).port}"
        async with dialling(migrated.identity, "edge", "user", address) as channel:
            yield Served(
                await assemble(running, own),
                auth_service_pb2_grpc.AuthServiceStub(channel),
                user_service_pb2_grpc.UserServiceStub(channel),
                address,
            )
        await running.finish()
