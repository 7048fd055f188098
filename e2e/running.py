"""The whole platform, started as `make up` starts it, in a folder and on a port of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from redis.asyncio import Redis

from e2e.clients.edge import Edge
from mesh.platform.child import leashed
from mesh.platform.folder import Folder
from mesh.platform.status import status
from mesh.testing.ports import free_port

# Seconds a first start may take on a small, busy machine.
_START_WITHIN_S = 270.0
_STOP_WITHIN_S = 60.0


class NotRunningError(Exception):
    """The platform did not start, or has stopped."""


@dataclass(frozen=True)
class Octopus:
    """A running platform: `octopus status --json` of a runtime folder, and what follows from it."""

    root: Path

    def status(self) -> dict[str, Any]:
        """Return what runs now."""
        return dict(status(Folder(self.root)))

    @property
    def edge(self) -> Edge:
        """Return the way in."""
        found = self.status()
        if not found["endpoints"]:
            raise NotRunningError(f"nothing runs in {self.root}; start it with `make up`")
        host, _, port = found["endpoints"]["grpc"].rpartition(":")
        return Edge(host, int(port), Path(found["edge_ca"]))

    def logins(self) -> dict[str, Any]:
        """Return the demo log-ins, by shop."""
        path = self.status()["demo_logins"]
        if path is None:
            raise NotRunningError("this platform was started without demo data")
        shops: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))["shops"]
        return shops

    def pid(self, instance: str) -> int:
        """Return the process id of an instance, e.g. "chat-1"."""
        for process in self.status()["processes"]:
            if process["instance"] == instance and process["pid"]:
                return int(process["pid"])
        raise NotRunningError(f"{instance} does not run")

    def kill(self, instance: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to an instance and return the process id it had."""
        pid = self.pid(instance)
        os.kill(pid, number)
        return pid

    @contextmanager
    def frozen(self, instance: str) -> Iterator[None]:
        """Freeze an instance and its children with SIGSTOP for as long as the block lasts: connections stand, nothing
        answers. The supervisor kills what stays frozen for 12 s.
        """
        pid = self.pid(instance)
        family = [psutil.Process(pid)]
        family[0].suspend()
        # Nothing is forked by what is stopped already; PostgreSQL has a process for each connection.
        family += family[0].children(recursive=True)
        for process in family[1:]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    async def wipe_valkey(self) -> None:
        """Make Valkey forget everything, scripts included."""
        folder = Folder(self.root)
        where = self.status()["endpoints"]["valkey"]
        password = (folder.secrets / "valkey-operator").read_text().strip()
        async with Redis.from_url(f"redis://{where}", username="operator", password=password) as client:
            await client.flushall()
            await client.script_flush()

    async def until_ready(self, *, timeout: float = 60, other_than: tuple[str, int] | None = None) -> None:
        """Wait until everything is ready; with `other_than` (instance, pid) in a new process."""
        async with asyncio.timeout(timeout):
            while True:
                found = await asyncio.to_thread(self.status)
                replaced = other_than is None or any(
                    process["instance"] == other_than[0] and process["pid"] not in (None, other_than[1])
                    for process in found["processes"]
                )
                if found["ready"] and replaced:
                    return
                await asyncio.sleep(0.1)


# Tests and benches are hundreds of people behind one address.
_MANY_FROM_ONE_ADDRESS = tuple(
    part
    for limit in (
        "control.identify_per_minute",
        "control.credentials_per_minute",
        "control.tokens_per_minute",
        "control.streams_per_minute",
        "control.connections_per_second",
        "bridge.upgrades_per_minute",
        "user.visitors_per_minute_per_address",
        "user.visitors_per_minute_per_shop",
    )
    for part in ("--set", f"{limit}=1000000")
)


@asynccontextmanager
async def running(root: Path, *options: str) -> AsyncIterator[Octopus]:
    """Run the platform for as long as the block lasts. Its terminal goes to `up.log` in the folder."""
    root.mkdir(parents=True, exist_ok=True)
    terminal = root / "up.log"
    with terminal.open("wb") as log:
        command = (
            sys.executable,
            "-m",
            "mesh.platform.cli",
            "up",
            "--root",
            str(root),
            "--edge-port",
            str(free_port()),
        )
        process = await asyncio.create_subprocess_exec(
            # It ends with us, also when we are killed.
            *leashed((*command, *_MANY_FROM_ONE_ADDRESS, *options), uid=None, stop_signal=signal.SIGINT),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        octopus = Octopus(root)
        try:
            ended = asyncio.create_task(process.wait())
            ready = asyncio.create_task(octopus.until_ready(timeout=_START_WITHIN_S))
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done() or ready.exception() is not None:
                ready.cancel()
                raise NotRunningError(f"the platform did not start:\n{terminal.read_text()[-4000:]}")
            yield octopus
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                try:
                    async with asyncio.timeout(_STOP_WITHIN_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
