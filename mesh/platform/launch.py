"""How components and members are started and known to be ready."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mesh.platform.child import Command
from mesh.platform.components.component import Component
from mesh.platform.folder import REPOSITORY, Folder


class ComponentLaunch:
    """Starts a component."""

    def __init__(self, component: Component) -> None:
        """Take what knows its settings, command and readiness."""
        self._component = component

    async def prepare(self) -> Command:
        """Write its settings."""
        await self._component.prepare()
        return self._component.command()

    async def probe(self, pid: int) -> None:
        """Ask it for an answer."""
        await self._component.probe()

    async def complete(self) -> None:
        """Do what can only be done while it answers."""
        await self._component.complete()

    async def answer(self, pid: int) -> None:
        """Ask it for an answer; one that says it is not ready is an answer too."""
        await self._component.probe()


class MemberLaunch:
    """Starts a member of the mesh, which is ready when it is registered as serving."""

    def __init__(
        self,
        folder: Folder,
        *,
        instance: str,
        module: str,
        settings: Callable[[], None],
        serving: Callable[[], dict[str, int]],
    ) -> None:
        """Take what writes its settings file, and what tells the process id of each instance that serves."""
        self._folder = folder
        self._instance = instance
        self._module = module
        self._settings = settings
        self._serving = serving

    async def prepare(self) -> Command:
        """Write its settings."""
        self._settings()
        return Command(
            name=self._instance,
            argv=(sys.executable, "-m", self._module, "--config", str(self._folder.config / f"{self._instance}.toml")),
            log=self._folder.log / f"{self._instance}.log",
            env=environment(),
            cwd=REPOSITORY,
            grace_s=20,
        )

    async def probe(self, pid: int) -> None:
        """Look for it in the registry."""
        if self._serving().get(self._instance) != pid:
            raise ConnectionError("it has not registered as serving")

    async def complete(self) -> None:
        """Do nothing: a member needs no completion."""

    async def answer(self, pid: int) -> None:
        """Look whether its event loop renews its registration. Raise ConnectionError when it does not.

        While no process renews, the bus is unreachable, which says nothing about this process.
        """
        serving = self._serving()
        if serving and serving.get(self._instance) != pid:
            raise ConnectionError("it does not renew its registration, and others do")


def environment() -> dict[str, str]:
    """Return what our Python processes need to find our code, and to use little memory with many threads."""
    return {
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen' / 'python'}",
        "PYTHONUNBUFFERED": "1",
        # Each thread would else get a heap of its own from the C library.
        "MALLOC_ARENA_MAX": "2",
        "GRPC_VERBOSITY": "ERROR",
    }
