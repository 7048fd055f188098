"""A process as a member of the mesh: what it opens at its start, and the order in which it lets go at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc.aio
import structlog

from mesh.identity.files import Identity
from mesh.process.config import ServiceConfig

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from mesh.bus import Bus
    from mesh.bus.ids import IdSource
    from mesh.rpc.tokens import TokenVerifier
    from mesh.stores.postgres import Database

_log = structlog.get_logger(__name__)

T = TypeVar("T")

Register = Callable[[grpc.aio.Server], None]
"""Adds one generated servicer to the server: `lambda server: add_ChatServiceServicer_to_server(servicer, server)`."""


class TaskDied(Exception):
    """A task that must run as long as the process has ended, so the process ends too."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the task {name!r} of this process has ended; the log says why")


class Member:
    """Everything a process has in common with the others.

    `bus` and `keys` are there from the start; stores and channels are opened when asked for, once. What is opened
    last is closed first.
    """

    config: ServiceConfig
    identity: Identity
    bus: Bus
    keys: TokenVerifier
    # Set when the process begins to stop, before anything else happens: long streams say goodbye then.
    stopping: asyncio.Event

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.identity = Identity(config.identity, config.name)
        self.stopping = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Opens something that is closed when the member leaves, in reverse order."""
        return await self._stack.enter_async_context(resource)

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to a service, opened at the first call."""
        raise NotImplementedError

    async def postgres(self) -> Database:
        """The database, as this service's role."""
        raise NotImplementedError

    async def valkey(self) -> Redis:
        """Valkey, as this service's user."""
        raise NotImplementedError

    async def ids(self) -> IdSource:
        """Snowflake ids under a leased worker id."""
        raise NotImplementedError

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a named task; when it ends before the member stops, the process ends with an error."""
        raise NotImplementedError

    async def serve(self, *register: Register, callers: Sequence[str] = ()) -> int:
        """Starts the gRPC server with everything a server of the mesh has, registers the instance, returns the port."""
        raise NotImplementedError

    async def announce(self, port: int) -> None:
        """Registers an instance that serves something else than gRPC on a port, as the bridge does."""
        raise NotImplementedError
