"""The components as tests use them: started once, and broken on purpose."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, overload

import nats
from psycopg import AsyncConnection
from redis.asyncio import Redis

from mesh.bus.bounds import Bounds
from mesh.bus.connection import connect
from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.manifest import manifests
from mesh.platform.child import Child
from mesh.platform.components.component import Component, until_ready
from mesh.platform.components.nats import Nats
from mesh.platform.components.postgres import Postgres
from mesh.platform.components.valkey import Valkey
from mesh.platform.durability import Durability
from mesh.platform.folder import Folder
from mesh.platform.migrations import migrate
from mesh.process.config import ServiceConfig
from mesh.testing import processes
from mesh.testing.ports import free_port

Config = TypeVar("Config", bound=ServiceConfig)

_PREFIX = "octopus-test-"
_STREAM_BYTES = 2 * 2**30
_FREEZES_WITHIN_S = 5.0
# PostgreSQL has a process for each connection; freezing its first one alone would leave the others at work.
_WITH_CHILDREN = (signal.SIGSTOP, signal.SIGCONT)


class Controlled:
    """A component that a test may stop, kill, freeze and start again on the same port and data."""

    def __init__(self, component: Component) -> None:
        """Do not start it."""
        self._component = component
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """Return its process id, None while it does not run."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Start it and wait until it answers. Raise ComponentError."""
        await self._component.prepare()
        self._child = Child(self._component.command())
        self._child.start()
        await until_ready(self._component, self._child)
        await self._component.complete()

    async def stop(self) -> None:
        """End it in good order."""
        if self._child is not None:
            await self._child.stop()

    async def kill(self) -> None:
        """End it as a crash would: kill -9."""
        if self._child is not None and self._child.pid is not None:
            self._child.signal(signal.SIGKILL)
            await self._child.wait()

    async def restart(self) -> None:
        """End it in good order and start it again."""
        await self.stop()
        await self.start()

    def reload(self) -> None:
        """Make it read its settings and certificate again, as after a rotation."""
        self._signal(signal.SIGHUP)

    def pause(self) -> None:
        """Freeze it and its children: connections stand, nothing answers. Return when every thread has stopped."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _FREEZES_WITHIN_S
        while not all(map(processes.frozen, self._pids())):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._component.name} did not stop within {_FREEZES_WITHIN_S} s of SIGSTOP")
            # PostgreSQL may have forked while it was being stopped.
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def _pids(self) -> list[int]:
        return [process.pid for process in processes.family(self.pid)] if self.pid is not None else []

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids() if number in _WITH_CHILDREN else [self.pid]:
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


class ControlledPostgres(Controlled):
    """PostgreSQL in the hands of a test."""

    def __init__(self, component: Postgres) -> None:
        """Do not start it."""
        super().__init__(component)
        self._postgres = component

    @property
    def conninfo(self) -> str:
        """Return where it is, without credentials."""
        return self._postgres.conninfo

    @property
    def data(self) -> Path:
        """Return its data folder, with its settings."""
        return self._postgres.data

    def owner(self) -> dict[str, str]:
        """Return the owner's credentials as connection parameters: may do everything, sees every tenant."""
        return self._postgres.owner_parameters()

    async def install_certificate(self) -> None:
        """Make it use its newest leaf, as after a rotation."""
        self._postgres.install_certificate()
        self.reload()

    async def migrate(self) -> None:
        """Apply db/migrations. Raise ComponentError."""
        await migrate(self._postgres.owner_url())

    async def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the owner and return its rows."""
        async with await AsyncConnection.connect(self.conninfo, autocommit=True, **self.owner()) as connection:  # type: ignore[arg-type]
            cursor = await connection.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []

    async def truncate(self) -> None:
        """Empty every table of the platform."""
        tables = await self.execute(
            "SELECT format('%I', relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE n.nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition AND relname LIKE 'cs\\_%'"
        )
        if tables:
            await self.execute(f"TRUNCATE {', '.join(name for (name,) in tables)} RESTART IDENTITY CASCADE")


class ControlledValkey(Controlled):
    """Valkey in the hands of a test."""

    def __init__(self, component: Valkey) -> None:
        """Do not start it."""
        super().__init__(component)
        self._valkey = component

    @property
    def url(self) -> str:
        """Return where it is, without credentials."""
        return self._valkey.url

    async def wipe(self) -> None:
        """Forget everything, scripts included."""
        client = Redis.from_url(
            self.url, username="operator", password=self._valkey.password_file("operator").read_text()
        )
        async with client:
            await client.flushall()
            await client.script_flush()


class ControlledNats(Controlled):
    """NATS in the hands of a test."""

    def __init__(self, component: Nats, identity: Path) -> None:
        """Do not start it."""
        super().__init__(component)
        self._nats = component
        self._identity = Identity(identity, "operator")
        self._control = Identity(identity, "control")

    @property
    def url(self) -> str:
        """Return where it is."""
        return self._nats.url

    @property
    def port(self) -> int:
        """Port for members."""
        return self._nats.port

    @property
    def monitor_port(self) -> int:
        """Port of its counters over HTTP: /connz, /jsz, /healthz."""
        return self._nats.monitor_port

    async def start(self) -> None:
        """Start it, and make the streams as the control process does. Raises ComponentError."""
        await super().start()
        await self.provision()

    async def provision(self, bounds: Bounds | None = None) -> None:
        """Make what is missing of streams, buckets and consumers."""
        async with connect(
            self.url, "control", tls=self._control.client_context, provisions=bounds or Bounds(_STREAM_BYTES)
        ):
            pass

    async def wipe(self) -> None:
        """Delete every stream and key-value bucket, and make them anew."""
        client = await nats.connect(self.url, tls=self._identity.client_context())
        try:
            stream_manager = client.jetstream()
            for stream in await stream_manager.streams_info():
                await stream_manager.delete_stream(str(stream.config.name))
        finally:
            await client.close()
        await self.provision()

    async def forget(self, stream: str, *, before: int) -> None:
        """Delete a stream's messages before a sequence, as age does."""
        client = await nats.connect(self.url, tls=self._identity.client_context())
        try:
            await client.jetstream().purge_stream(stream, seq=before)
        finally:
            await client.close()

    async def forget_ids(self, stream: str) -> None:
        """Make a stream forget the message ids it knows, as its duplicate window does in time."""
        client = await nats.connect(self.url, tls=self._identity.client_context())
        try:
            manager = client.jetstream()
            config = (await manager.stream_info(stream)).config
            window, subject = config.duplicate_window, f"{(config.subjects or [''])[0].split('.')[0]}.forget.ids"
            probe = {"Nats-Msg-Id": f"probe-{secrets.token_hex(8)}"}
            config.duplicate_window = 0.1
            await manager.update_stream(config)
            await manager.publish(subject, b"", headers=probe)
            async with asyncio.timeout(10):
                # Ids are forgotten from the oldest on, so that a new one is gone last.
                duplicate: bool | None = True
                while duplicate:
                    await asyncio.sleep(0.05)
                    duplicate = (await manager.publish(subject, b"", headers=probe)).duplicate
            config.duplicate_window = window
            await manager.update_stream(config)
        finally:
            await client.close()


class Platform:
    """PostgreSQL, Valkey and NATS on free ports in one temporary folder, with everyone's certificates."""

    def __init__(self, durability: Durability = Durability.INTERVAL) -> None:
        """Make the folder and the certificates; start nothing.

        A killed server loses nothing either way; waiting for the disk each time would take much of the tests' time.
        """
        _sweep()
        root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        # PostgreSQL may run as another user, who has to reach its data.
        root.chmod(0o755)
        self.folder = Folder(root)
        self.folder.make()
        self.authority = Authority(self.folder.identity)
        for name in names.everybody():
            self.authority.issue(name, timedelta(hours=12))
        taken = [free_port() for _ in range(4)]
        self.postgres = ControlledPostgres(Postgres(self.folder, taken[0], durable=False))
        self._valkey = Valkey(self.folder, taken[1])
        self.valkey = ControlledValkey(self._valkey)
        self.nats = ControlledNats(Nats(self.folder, taken[2], taken[3], durability=durability), self.folder.identity)
        self.components: tuple[Controlled, ...] = (self.postgres, self.valkey, self.nats)

    @property
    def identity(self) -> Path:
        """Folder of the certificates, as `ServiceConfig.identity` wants it."""
        return self.folder.identity

    @property
    def nats_url(self) -> str:
        """Return where NATS is."""
        return self.nats.url

    @property
    def valkey_url(self) -> str:
        """Return where Valkey is, without credentials."""
        return self.valkey.url

    @overload
    def config(self, name: str, **extra: Any) -> ServiceConfig: ...

    @overload
    def config(self, name: str, cls: type[Config], **extra: Any) -> Config: ...

    def config(self, name: str, cls: type[ServiceConfig] = ServiceConfig, **extra: Any) -> ServiceConfig:
        """Return settings for a member that uses these components; `extra` adds to them or replaces some."""
        values: dict[str, Any] = {
            "name": name,
            "instance": f"{name}-1",
            "identity": self.identity,
            "nats_url": self.nats_url,
            "shutdown_grace_s": 2.0,
        }
        stores = manifests()[name].stores if name in manifests() else ()
        if "postgres" in stores:
            values["postgres"] = self.postgres.conninfo
        if "valkey" in stores:
            values["valkey_url"] = self.valkey_url
            values["valkey_password_file"] = self._valkey.password_file(name)
        return cls(**{**values, **extra})

    async def start(self) -> None:
        """Start the components. Raise ComponentError."""
        # One after the other: the database's first start uses both cores of a small machine.
        for component in self.components:
            await component.start()

    async def stop(self) -> None:
        """End the components and remove the folder."""
        for component in self.components:
            component.resume()
            await component.kill()
        shutil.rmtree(self.folder.root, ignore_errors=True)


def _sweep() -> None:
    """Remove what test sessions that were killed have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
