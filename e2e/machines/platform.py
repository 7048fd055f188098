"""The platform on three machines: started, watched, and ended whatever happens."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from e2e.clients.edge import Edge
from e2e.machines.members import EDGE_METRICS, EDGE_PORT, EDGES, Members, logins
from e2e.machines.network import NAMES, Network, network
from e2e.machines.stores import Bus, Database, LiveState, share_secrets
from mesh import bus
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.identity.issuer import leaves
from mesh.manifest import manifests
from mesh.platform import ports
from mesh.platform.child import Child, Command, describe_exit
from mesh.platform.folder import Folder


class NotWholeError(AssertionError):
    """The platform is not as it should be."""


class Machines:
    """What runs, by machine."""

    def __init__(self, root: Path, net: Network) -> None:
        self.network = net
        self.root = root
        self.folders = {name: Folder(root / name) for name in NAMES}
        self.children: dict[str, Child] = {}
        self._public = root / "public"
        self._identity = root / "identity"
        self.bus = Bus(net, self.folders)
        for folder in self.folders.values():
            folder.make()
            folder.identity.rmdir()
            # As if the certificates had been copied there, and were again with each renewal.
            folder.identity.symlink_to(self._identity)
        Members.make_keys(self.folders["m1"])
        self.database = Database(net, self.folders)
        self.live_state = LiveState(net, self.folders)
        self.members = Members(
            net, self.folders, identity=self._identity, public=self._public,
            bus=self.bus, database=self.database, live_state=self.live_state,
        )  # fmt: skip

    def edge(self, machine: str) -> Edge:
        """Return the way in on a machine."""
        return Edge(self.network.address(machine), EDGE_PORT, self._public / "ca.pem")

    def logins(self) -> dict[str, Any]:
        """Return the demo log-ins, by shop."""
        return logins(self._logins)

    @property
    def _logins(self) -> Path:
        return self.folders["m1"].secrets / "demo-logins.json"

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything, stores first; the stack ends it in reverse order."""
        addresses = [self.network.address(name) for name in NAMES]
        dialled = dict.fromkeys(("nats", "postgres", "control"), addresses)
        for leaf in leaves(Authority(self._identity), dialled):
            leaf.issue()
        Authority(self._public, "edge").issue_public("public", addresses)
        stack.push_async_callback(self._stop)
        await self.database.make(ports.choose())
        for machine in NAMES:
            for command in await self.live_state.prepare(machine):
                self.run(command)
            share_secrets(self.folders)
            self.run(await self.bus.prepare(machine))
            self.run(self.database.command(machine))
        await self.until(self.rejoined_stores, within=90)
        for machine in reversed(NAMES):
            for command in self.members.commands(machine):
                self.run(command)
        await self.until(self.all_registered, within=180)
        for machine in EDGES:
            self.run(self.members.edge(machine))
        await self.until(self.edges_ready, within=60)
        await self._load_demo()

    def run(self, command: Command) -> None:
        """Start a command, as one that should go on."""
        child = Child(command)
        child.start()
        self.children[command.name] = child

    async def until(self, condition: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Wait until a condition holds; a process that dies meanwhile is told of at once."""
        why = "it does not hold"
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        if await condition():
                            return
                    except Exception as error:  # noqa: BLE001 - whatever clients of servers that are half up say
                        why = repr(error)
                    for name, child in self.children.items():
                        if child.exit_code is not None:
                            words = child.last_words(20)
                            raise NotWholeError(f"{name} ended ({describe_exit(child.exit_code)}):\n{words}")
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise NotWholeError(f"not within {within} s: {condition.__doc__} {why}") from None

    async def rejoined_stores(self) -> bool:
        """The NATS servers are healthy, both standbys stream, both replicas are online."""
        for machine in NAMES:
            if not await self.bus.is_healthy(machine):
                return False
        primary = await self.primary()
        others = len(NAMES) - 1
        return (
            primary is not None
            and len(await self.database.followers(primary)) == others
            and await self.live_state.replicas(await self.live_state.primary("m3")) == others
        )

    async def primary(self) -> str | None:
        """Return the machine whose PostgreSQL takes writes."""
        for machine in NAMES:
            try:
                if await self.database.ask(machine, "SELECT pg_is_in_recovery()") is False:
                    return machine
            except psycopg.OperationalError:
                continue
        return None

    async def all_registered(self) -> bool:
        """Every instance is in the registry."""
        return self.members.instances() <= await self.registered()

    async def registered(self) -> set[str]:
        """Return who is in the registry."""
        operator = Identity(self._identity, "operator")
        try:
            async with bus.connect(",".join(self.bus.urls.values()), "operator", tls=operator.client_context) as client:
                return {entry.key.partition(".")[2] for entry in await client.kv("registry").entries()}
        except bus.BusError:
            return set()

    async def edges_ready(self) -> bool:
        """Each Envoy takes connections."""
        async with httpx.AsyncClient(timeout=2) as http:
            for machine in EDGES:
                try:
                    answer = await http.get(f"http://{self.network.address(machine)}:{EDGE_METRICS}/ready")
                except httpx.HTTPError:
                    return False
                if answer.status_code != 200:
                    return False
        return True

    async def _load_demo(self) -> None:
        demo = manifests()["user"].demo
        assert demo is not None
        settings = self.members.settings("m1", "user")
        command = self.members.python(
            "m1", "demo", demo.module, "--config", str(settings), "--logins", str(self._logins)
        )
        child = Child(command)
        child.start()
        try:
            assert await child.wait() == 0, child.last_words(20)
        finally:
            await child.stop()

    async def _stop(self) -> None:
        for child in reversed(self.children.values()):
            child.signal(child.command.stop_signal)
        await asyncio.gather(*(child.stop() for child in self.children.values()))


@asynccontextmanager
async def machines(keep_logs: Path) -> AsyncIterator[Machines]:
    """Run the platform for as long as the block lasts, and keep its logs."""
    # Not pytest's own folder, which only its owner may enter: PostgreSQL runs as another user.
    root = Path(tempfile.mkdtemp(prefix="octopus-machines-"))
    root.chmod(0o755)
    try:
        with network() as net:
            async with AsyncExitStack() as stack:
                platform = Machines(root, net)
                try:
                    await platform.start(stack)
                    yield platform
                finally:
                    for name, folder in platform.folders.items():
                        shutil.copytree(folder.log, keep_logs / name, dirs_exist_ok=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
