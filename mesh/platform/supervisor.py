"""`octopus up`: runs the whole platform on this machine, and keeps it running until told to stop.

The order: lock the folder, issue certificates, start the components, bring the database up to date, start the
members stage by stage, load the demo shops once. Then it waits. At the end everything stops in reverse order.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import psutil

from mesh.atomic_file import write
from mesh.identity import names
from mesh.identity.authority import Authority, BrokenAuthorityError
from mesh.identity.files import Identity
from mesh.identity.rotation import Leaf, Rotation
from mesh.manifest import Demo, Manifest
from mesh.platform import lock, orphans, ports
from mesh.platform.child import Child, Command
from mesh.platform.components.component import ComponentError
from mesh.platform.durability import Durability
from mesh.platform.folder import REPOSITORY, Folder
from mesh.platform.launch import environment
from mesh.platform.logs import keep_small, log_to
from mesh.platform.managed_process import ManagedProcess, StartError
from mesh.platform.migrations import migrate
from mesh.platform.plan import PUBLIC, Plan, Planned
from mesh.platform.serving import Serving
from mesh.platform.state import ProcessState, State
from mesh.platform.terminal import Terminal

T = TypeVar("T")

# How long the children of a supervisor that was killed may take to end by themselves, in seconds.
_ORPHAN_SECONDS = 15.0

_AGAIN_SECONDS = 5.0


class PortInUseError(Exception):
    """The public port is in use."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is in use by {ports.listener(port)}. Stop that, or choose another with "
            f"`octopus up --edge-port {port + 1}` (`make up EDGE_PORT={port + 1}`)"
        )


# Why a platform may not start; each text says what to do.
START_ERRORS = (
    lock.AlreadyRunningError,
    PortInUseError,
    StartError,
    ComponentError,
    BrokenAuthorityError,
)


class Stopped(Exception):
    """A signal asked for the end."""


class Supervisor:
    """One platform in one folder."""

    def __init__(
        self,
        folder: Folder,
        *,
        programs: Mapping[str, Manifest],
        edge_port: int,
        copies: Mapping[str, int],
        settings: Mapping[str, Mapping[str, object]],
        demo: bool,
        durability: Durability,
        terminal: Terminal,
    ) -> None:
        """Take what to run; do nothing yet."""
        self._folder = folder
        self._programs = programs
        self._edge_port = edge_port
        self._copies = copies
        self._settings = settings
        self._demo = demo
        self._durability = durability
        self._terminal = terminal
        self._managed: list[list[ManagedProcess]] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run the platform until a signal; return when everything has ended.

        Raise AlreadyRunningError, PortInUseError, StartError, ComponentError, BrokenAuthorityError.
        """
        self._listen_for_signals()
        self._folder.make()
        log_to(self._folder.log / "supervisor.log")
        with lock.held(self._folder) as before:
            self._state = State.read(self._folder)
            await self._clear_up(before)
            if not ports.is_free(self._edge_port):
                raise PortInUseError(self._edge_port)
            self._state.supervisor = os.getpid()
            self._state.edge_port = self._edge_port
            self._state.processes = {}
            tasks: list[asyncio.Task[None]] = []
            try:
                await self._start(tasks)
                self._state.ready = True
                self._state.save()
                self._introduce()
                await self._stop.wait()
            except Stopped:
                pass
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._stop_all()

    async def _start(self, tasks: list[asyncio.Task[None]]) -> None:
        plan = Plan(
            self._folder,
            self._state,
            programs=self._programs,
            edge_port=self._edge_port,
            copies=self._copies,
            settings=self._settings,
            durability=self._durability,
        )
        self._rotation = self._prepare_rotation(plan)
        self._rotation.renew()
        plan.write_operator_settings()
        await self._start_stage(plan.components())
        tasks.append(asyncio.create_task(self._again("certificate rotation", self._rotation.run), name="rotation"))
        logs = functools.partial(keep_small, self._folder.log)
        tasks.append(asyncio.create_task(self._again("keeping logs small", logs), name="logs"))
        self._terminal.wait("bringing the database up to date")
        await self._unless_stopped(migrate(plan.postgres.owner_url()))
        serving = Serving(plan.nats.url, Identity(self._folder.identity, "operator"))
        tasks.append(asyncio.create_task(self._again("following the registry", serving.run), name="registry"))
        for stage in plan.stages(serving.pids):
            await self._start_stage(stage)
        if self._demo:
            await self._load_demo(plan)

    def _prepare_rotation(self, plan: Plan) -> Rotation:
        mesh = Authority(self._folder.identity)
        edge = Authority(self._folder.edge, "Octopus edge authority")
        leaves = [_member_leaf(mesh, Identity(self._folder.identity, name)) for name in sorted(names.everybody())]
        public = Identity(self._folder.edge, PUBLIC)
        leaves.append(Leaf(public, lambda: edge.issue_public(PUBLIC), lambda: edge.holds(public)))

        async def replaced(identity: Identity) -> None:
            # Members and Envoy see the new files by themselves; these two want to be told.
            if identity.name == "postgres":
                plan.postgres.install_certificate()
            if identity.name in names.INFRASTRUCTURE:
                for process in self._all():
                    if process.state.instance == identity.name:
                        process.signal(signal.SIGHUP)

        return Rotation(leaves, replaced)

    async def _start_stage(self, stage: list[Planned]) -> None:
        processes = []
        for planned in stage:
            state = ProcessState(instance=planned.instance, name=planned.name)
            self._state.processes[planned.instance] = state
            processes.append(ManagedProcess(state, planned.launch, self._terminal, self._state.save))
        self._managed.append(processes)
        self._terminal.wait(f"starting {', '.join(process.state.instance for process in processes)}")
        for process in processes:
            process.start()
        await self._unless_stopped(asyncio.gather(*(process.ready() for process in processes)))

    async def _load_demo(self, plan: Plan) -> None:
        """Run what fills a new platform, each once; report a failure and leave the platform running."""
        marks = self._folder.root / "data" / "demo.json"
        loaded: list[str] = json.loads(marks.read_text()) if marks.exists() else []
        for name, demo in plan.demos():
            if demo.title in loaded:
                continue
            self._terminal.wait(f"loading {demo.title}")
            began = time.monotonic()
            if await self._unless_stopped(self._run_demo(plan, name, demo)):
                loaded.append(demo.title)
                write(marks, json.dumps(loaded))
                self._terminal.done(f"loaded {demo.title} ({time.monotonic() - began:.1f} s)")
            else:
                self._terminal.warn(
                    f"the demo data '{demo.title}' could not be loaded; the platform runs without it. "
                    f"See {self._demo_log}; it is tried again at the next start"
                )

    async def _run_demo(self, plan: Plan, name: str, demo: Demo) -> bool:
        child = Child(
            Command(
                name="demo",
                argv=(sys.executable, "-m", *plan.demo_arguments(name, demo)),
                log=self._demo_log,
                env=environment(),
                cwd=REPOSITORY,
            )
        )
        child.start()
        try:
            return await child.wait() == 0
        finally:
            await child.stop()

    @property
    def _demo_log(self) -> Path:
        return self._folder.log / "demo.log"

    def _introduce(self) -> None:
        origin = f"https://localhost:{self._edge_port}"
        lines = [
            ("shopper's page 顾客页面", f"{origin}/"),
            ("agent's page 客服工作台", f"{origin}/agent"),
            (
                "gRPC, gRPC-Web, WebSocket",
                f"localhost:{self._edge_port}, WebSocket at wss://localhost:{self._edge_port}/ws",
            ),
            ("trust this certificate 信任证书", str(self._folder.edge / "ca.pem")),
        ]
        logins = self._folder.secrets / "demo-logins.json"
        if logins.exists():
            lines.append(("demo log-ins 演示账号", str(logins)))
        lines.append(
            ("see also 另见", "octopus status, octopus mesh status, octopus demo; Ctrl-C stops everything 全部停止")
        )
        self._terminal.wait("")
        self._terminal.done("Octopus is ready 平台已就绪")
        self._terminal.page(lines)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._terminal.warn("stopping at once")
            for process in self._all():
                process.kill()
        else:
            self._terminal.wait("")
            self._terminal.say(
                "stopping; once more Ctrl-C does not wait for anybody 正在停止，再按一次 Ctrl-C 立即结束"
            )
        self._stop.set()

    async def _again(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run what must run as long as the platform does; report a failure and start it again."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a full disk must not end in certificates that nobody renews
                self._terminal.warn(f"{what} failed: {error}; trying again in {_AGAIN_SECONDS:.0f} s")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _unless_stopped(self, work: Awaitable[T]) -> T:
        """Return what the work returns. Raise Stopped when a signal comes first; the work is cancelled then."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Stopped
            return working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _stop_all(self) -> None:
        """End everything, what was started last first."""
        self._state.ready = False
        for processes in reversed(self._managed):
            await asyncio.gather(*(process.stop() for process in processes))
        self._terminal.wait("")
        self._state.supervisor = None
        self._state.processes = {}
        self._state.save()
        self._terminal.say("everything has ended 已全部停止")

    async def _clear_up(self, before: int | None) -> None:
        """Wait for what a killed supervisor has left running; its children end with it, some after a moment."""
        if before is None:
            return
        left = [found for process in self._state.processes.values() if (found := orphans.living(process)) is not None]
        self._terminal.warn(
            f"the last supervisor (process {before}) was killed and left its lock"
            + (f" and {len(left)} processes that are ending" if left else "; nothing of it runs any more, going on")
        )
        for process in await asyncio.to_thread(orphans.until_ended, left, _ORPHAN_SECONDS):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._terminal.warn(f"process {process.pid} ({process.name()}) does not end; killing it")
                process.kill()

    def _all(self) -> list[ManagedProcess]:
        return [process for processes in self._managed for process in processes]


def _member_leaf(authority: Authority, identity: Identity) -> Leaf:
    return Leaf(identity, lambda: authority.issue(identity.name), lambda: authority.holds(identity))
