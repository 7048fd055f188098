"""A member of the mesh: what a process opens at start-up, and the order in which it closes at shutdown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc
import structlog
from octopus.mesh.v1 import registry_pb2

from mesh import bus
from mesh.bus.connection import SERVER_NAME
from mesh.bus.ids import IdSource, lease
from mesh.bus.lease import Lease
from mesh.bus.streams import LEASES
from mesh.control import bootstrap
from mesh.control.registration import Registration
from mesh.identity.files import Identity
from mesh.process.config import ConfigError, ServiceConfig
from mesh.process.periodic import Step, periodic
from mesh.rpc import channel, server
from mesh.rpc.policy import Method
from mesh.rpc.server import PortTaken, Register
from mesh.rpc.tokens import TokenVerifier
from mesh.telemetry.metrics import metrics
from mesh.telemetry.tracing import tracing

if TYPE_CHECKING:
    from mesh.stores.postgres import Database
    from mesh.stores.valkey import Valkey

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# How long calls are still accepted after deregistration, until every client has the new endpoints, in seconds.
_SPREADING: Final = 0.5

# How long a start waits for the public keys. Without them the process starts too, and gets them later.
_KEYS: Final = 2.0


class TaskDied(Exception):
    """A task that must run for the whole life of the process has ended, so the process ends too."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the task {name!r} has ended, and this process cannot work without it; its log says why")


class Member:
    """The connections and servers of one process; use it as an async context.

    `bus` and `keys` are open from the start. Stores, ids and channels are opened at their first use, and
    closed in reverse order.
    """

    bus: bus.Bus
    # Verifies access tokens; fed from the buckets `keys` and `revocations`.
    keys: TokenVerifier

    def __init__(self, config: ServiceConfig) -> None:
        self.config: Final = config
        self.identity: Final = Identity(config.identity, config.name)
        # Set when the process begins to stop, before anything else happens.
        self.stopping: Final = asyncio.Event()
        # The port of the metrics, once the member has been entered.
        self.metrics_port = 0
        self._stack = AsyncExitStack()
        self._opened: dict[str, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._died: asyncio.Future[str]
        self._servers: list[server.Server] = []
        self._registration: Registration | None = None
        self._on_stop: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        """Connect to the bus and read the public keys. Raise an error that says why it cannot."""
        config = self.config
        self._died = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(tracing(config))
            try:
                self.metrics_port = await stack.enter_async_context(metrics(config.metrics_port, config.metrics_host))
            except OSError as error:
                raise PortTaken(f"{config.metrics_host}:{config.metrics_port}") from error
            self.bus = await stack.enter_async_context(
                bus.connect(
                    config.nats_url,
                    config.name,
                    tls=lambda: self.identity.client_context(config.nats_ca),
                    server_name=None if config.nats_ca else SERVER_NAME,
                    credentials_file=config.nats_credentials_file,
                    replicas=config.stream_replicas,
                    provisions=config.bus_bounds(),
                    handler_deadline=config.handler_deadline_s,
                )
            )
            if config.xds is not None:
                bootstrap.install(xds=config.xds, identity=config.identity, name=config.name, instance=config.instance)
            self.keys = TokenVerifier()
            self.keys.revocations.known = False
            stack.push_async_callback(self._end_tasks)
            keys, revocations = asyncio.Event(), asyncio.Event()
            self.spawn("token keys", self._watch_keys(keys))
            self.spawn("token revocations", self._watch_revocations(revocations))
            try:
                async with asyncio.timeout(_KEYS):
                    await keys.wait()
                    await revocations.wait()
            except TimeoutError:
                _log.warning("no token keys or revocations yet; calls with a token are refused until they arrive")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close in reverse order; a failure to close is logged, and the rest is still closed."""
        await self.finish()
        await self._stack.aclose()

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Enter a context that is closed with the member, after those entered later."""
        return await self._stack.enter_async_context(resource)

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return the channel to a service. Raise `ConfigError` when there is neither a control plane nor an address."""
        key = f"channel {service}"
        if key not in self._opened:
            address = None if self.config.xds else self.config.addresses.get(service)
            if self.config.xds is None and address is None:
                raise ConfigError(
                    f"{self.config.instance} does not know where {service} is: "
                    f"set `xds` to the control plane's address, or `addresses.{service}` in a test"
                )
            opened = channel.connect(service, self.identity, address=address)
            self._stack.push_async_callback(opened.close)
            # Discovery and handshakes take longer than a call, so they begin before the first one.
            opened.get_state(try_to_connect=True)
            self._opened[key] = opened
        found: grpc.aio.Channel = self._opened[key]
        return found

    async def postgres(
        self, *, vectors: bool = False, max_connections: int = 10, statement_timeout_s: float = 5.0
    ) -> Database:
        """Return the database, as this service's role; `mesh.stores.postgres.connect` explains the rest.

        Raise `ConfigError` when the settings name no database.
        """
        # Imported on demand: edge processes should not load database drivers.
        from mesh.stores import postgres

        conninfo = self._needed("postgres", self.config.postgres)
        return await self._once(
            "postgres",
            lambda: postgres.connect(
                conninfo,
                self.identity,
                vectors=vectors,
                max_connections=max_connections,
                statement_timeout_s=statement_timeout_s,
                ca=self.config.postgres_ca,
                pass_file=self.config.postgres_pass_file,
            ),
        )

    async def valkey(self) -> Valkey:
        """Return a client of Valkey, as this service's user. Raise `ConfigError` when the settings name none."""
        from mesh.stores import valkey

        url = self._needed("valkey_url", self.config.valkey_url)
        password = self._needed("valkey_password_file", self.config.valkey_password_file)
        ca = self.config.valkey_ca or self.identity.ca
        return await self._once(
            "valkey", lambda: valkey.connect(url, user=self.config.name, password_file=password, ca=ca)
        )

    async def ids(self) -> IdSource:
        """Return a source of Snowflake ids, with a worker number that is leased until the process ends."""
        return await self._once("ids", lambda: lease(self.bus.kv("workers"), self.config.instance))

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that lasts as long as the process: when it ends earlier, the process ends with an error.

        At the end it is cancelled after the servers have finished, the last one first.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._on_task_done)
        return task

    def periodic(self, name: str, step: Step, *, every: float, alone: bool = False) -> asyncio.Task[None]:
        """Repeat a step, with a pause of `every` seconds, until the process stops.

        With `alone`, one instance of the service does it; when that one ends, is killed or freezes, another takes over
        within seconds. Its manifest then writes the bucket `leases`. A step may run twice and must be idempotent.
        """
        held = Lease(self.bus.kv(LEASES), f"{self.config.name}.{name.replace(' ', '-')}", self.config.instance)
        return self.spawn(name, periodic(name, step, every=every, lease=held if alone else None))

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call back when the process begins to stop, while calls still run, so that long streams can end cleanly."""
        self._on_stop.append(callback)

    async def serve(
        self, *register: Register, others: Mapping[str, frozenset[str] | Method] | None = None, listed: bool = True
    ) -> int:
        """Start a gRPC server with everything a server of the mesh has, and register the instance; return the port.

        Call it last in `app`: calls arrive from then on. `others` is for services without options of ours, see
        `mesh.rpc.server.build`. An instance that is not `listed` gets no calls through the control plane.
        """
        started = server.build(
            self.identity, self.keys, *register, host=self.config.host, port=self.config.port, others=others
        )
        await started.start()
        self._servers.append(started)
        _log.info("serving", host=self.config.host, port=started.port)
        if listed:
            await self.announce(started.port)
        return started.port

    async def announce(self, port: int, *, socket: Path | None = None) -> None:
        """Register the instance as accepting calls on a port. `serve` does it; call this only without a gRPC server.

        An edge on this machine connects to the `socket` instead, when there is one.
        """
        config = self.config
        instance = registry_pb2.Instance(
            service=config.name,
            instance_id=config.instance,
            version=config.version,
            host=config.reached_at,
            port=port,
            weight=config.weight,
            pid=os.getpid(),
            metrics_port=self.metrics_port,
            socket="" if socket is None else str(socket),
        )
        self._registration = Registration(self.bus, instance, certificate_expires_at=lambda: self.identity.expires_at)
        await self._registration.start()

    async def until(self, stop: asyncio.Event) -> None:
        """Return when the event is set. Raise `TaskDied` when a spawned task ends before."""
        stopped = asyncio.create_task(stop.wait(), name="wait for the stop signal")
        try:
            await asyncio.wait((stopped, self._died), return_when=asyncio.FIRST_COMPLETED)
            if self._died.done() and not stop.is_set():
                raise TaskDied(self._died.result())
        finally:
            stopped.cancel()

    async def finish(self) -> None:
        """Shut down in this order: report not serving, deregister, wait for running calls, drain tasks.

        What `app` and the member have opened is closed afterwards, by its opener. A second call does nothing.
        """
        if self.stopping.is_set():
            return
        self.stopping.set()
        for each in self._servers:
            await _attempt("refuse", each.refuse())
        if self._registration is not None:
            await _attempt("drain registration", self._registration.drain())
            if self.config.xds is not None:
                await asyncio.sleep(_SPREADING)
        for callback in self._on_stop:
            try:
                callback()
            except Exception:  # noqa: BLE001 -- one service's mistake must not stop the end half way
                _log.exception("a stop callback failed")
        await asyncio.gather(
            *(_attempt("stop server", each.stop(self.config.shutdown_grace_s)) for each in self._servers)
        )
        if self._registration is not None:
            await _attempt("deregister", self._registration.stop())
        await self._end_tasks()

    async def _end_tasks(self) -> None:
        while self._tasks:
            task = self._tasks.pop()
            task.cancel()
            # Consumers wait for their running handlers before they end.
            await asyncio.gather(task, return_exceptions=True)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task not in self._tasks:
            # It was cancelled by us.
            if not task.cancelled() and (late := task.exception()) is not None:
                _log.error("task failed at its end", task=task.get_name(), exc_info=late)
            return
        self._tasks.remove(task)
        error = None if task.cancelled() else task.exception()
        _log.error("task ended", task=task.get_name(), exc_info=error)
        if not self._died.done():
            self._died.set_result(task.get_name())

    async def _watch_keys(self, arrived: asyncio.Event) -> None:
        async for entry in self.bus.kv("keys").watch("jwks"):
            if entry is None:
                arrived.set()
            elif entry.value is not None:
                # A deleted key set is a mistake; the keys in use stay valid.
                self.keys.load(entry.value)

    async def _watch_revocations(self, arrived: asyncio.Event) -> None:
        async for entry in self.bus.kv("revocations").watch():
            if entry is None:
                self.keys.revocations.known = True
                arrived.set()
            else:
                self.keys.revocations.take(entry.key, entry.value)

    async def _once(self, name: str, open_it: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        if name not in self._opened:
            self._opened[name] = await self.enter(open_it())
        found: T = self._opened[name]
        return found

    def _needed(self, setting: str, value: T | None) -> T:
        if value is None:
            raise ConfigError(f"{self.config.instance} needs the setting `{setting}`: add it to its settings file")
        return value


async def _attempt(what: str, work: Coroutine[Any, Any, None]) -> None:
    """Run one step of the shutdown; its failure must not prevent the others."""
    try:
        await work
    except Exception:  # noqa: BLE001 -- the steps that follow matter more
        _log.exception("a step of the shutdown failed", step=what)
