"""Keep one process running: start it, wait until it is ready, restart it when it dies."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Protocol

from mesh.platform.child import Child, Command, describe_exit
from mesh.platform.state import Phase, ProcessState
from mesh.platform.terminal import Terminal

# The pause before a start grows with each death, and is forgotten by a process that lived for a while. Seconds.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_AFTER = 60.0

# A process that dies this often before it was ready for the first time is not restarted.
ATTEMPTS = 3

# How long a start may take on a small machine where everything starts at once. Seconds.
READY_WITHIN = 90.0

# A start that takes longer is reported. Seconds.
TELL_AFTER = 15.0

_PROBE_SECONDS = 0.1

# A process that gave no answer for so long, asked several times, is frozen. Longer than a bus that restarts keeps
# everybody off the registry, and longer than a busy machine makes anybody wait. Seconds.
FROZEN_AFTER = 12.0
_FAILED_ANSWERS = 4
_HEALTH_SECONDS = 3.0
_ANSWER_WITHIN = 3.0


class StartError(Exception):
    """A process could not be started. The text says which, why, and where to look."""


class Launch(Protocol):
    """How one process is started and known to be ready."""

    async def prepare(self) -> Command:
        """Write what it reads and return how to run it."""

    async def probe(self, pid: int) -> None:
        """Return when the process takes work; raise an exception that says what is missing."""

    async def complete(self) -> None:
        """Do what can only be done once it takes work. Repeatable."""

    async def answer(self, pid: int) -> None:
        """Return when the running process answers at all. Raise TimeoutError or ConnectionError when it does not."""


class ManagedProcess:
    """One process and its life."""

    def __init__(
        self,
        state: ProcessState,
        launch: Launch,
        terminal: Terminal,
        changed: Callable[[], None],
        *,
        ready_within: float = READY_WITHIN,
        frozen_after: float = FROZEN_AFTER,
    ) -> None:
        """Do not start it; `changed` is called whenever `state` has changed."""
        self._ready_within = ready_within
        self._frozen_after = frozen_after
        # Why we killed it ourselves; empty when we did not.
        self._killed_for = ""
        self.state = state
        self._launch = launch
        self._terminal = terminal
        self._changed = changed
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False

    def start(self) -> None:
        """Begin to keep the process running."""
        self._task = asyncio.create_task(self._keep(), name=f"process {self.state.instance}")

    async def ready(self) -> None:
        """Wait until the process is ready for the first time. Raise StartError when it cannot be."""
        await asyncio.shield(self._first)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal; nothing when it does not run now."""
        if self._child is not None:
            self._child.signal(number)

    async def stop(self) -> None:
        """End the process in its grace and keep it so."""
        self._stopping = True
        if self._task is None:
            return
        if self._child is not None and self._child.pid is not None:
            self._enter("stopping")
            await self._child.stop()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        # The task may have been between two starts.
        if self._child is not None:
            await self._child.stop()
        self._enter("ended", pid=None)

    def kill(self) -> None:
        """End the process at once."""
        self._stopping = True
        self.signal(signal.SIGKILL)

    def _enter(self, phase: Phase, **values: object) -> None:
        self.state.phase = phase
        for name, value in values.items():
            setattr(self.state, name, value)
        self._changed()

    async def _keep(self) -> None:
        deaths = 0
        try:
            while not self._stopping:
                how = await self._live()
                if self._stopping:
                    return
                if self._child is not None and time.time() - self._child.started_at > STEADY_AFTER:
                    deaths = 0
                deaths += 1
                if not self._first.done() and deaths >= ATTEMPTS:
                    self._give_up(how)
                    return
                pause = min(FIRST_PAUSE * 2 ** (deaths - 1), LONGEST_PAUSE)
                self.state.restarts += 1
                self._enter("pausing", pid=None, last_end=how)
                ended = "was killed" if self._killed_for else "ended by itself"
                self._terminal.warn(
                    f"{self.state.instance} {ended} ({how}); it starts again in {pause:g} s "
                    f"(restart {self.state.restarts}). {self._where_to_look()}"
                )
                await asyncio.sleep(pause)
        except Exception as error:  # whatever it is, whoever waits for the first start must hear of it
            if self._first.done():
                raise
            self._first.set_exception(error)

    async def _live(self) -> str:
        """Run the process once, from its start to its end; return how it ended."""
        try:
            child = Child(await self._launch.prepare())
            child.start()
        except Exception as error:
            if not self._first.done():
                raise StartError(f"{self.state.instance} cannot be started: {error}") from error
            return f"it cannot be started: {error}"
        self._child = child
        self._killed_for = ""
        self._enter("starting", pid=child.pid, started_at=child.started_at)
        watching = asyncio.create_task(self._watch(child), name=f"readiness of {self.state.instance}")
        try:
            how = describe_exit(await child.wait())
            return self._killed_for or how
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, child: Child) -> None:
        """Note when the process is ready."""
        wrong, told = "no answer", False
        while (pid := child.pid) is not None:
            try:
                await self._launch.probe(pid)
                await self._launch.complete()
                break
            except Exception as error:  # noqa: BLE001 - a process that is half up makes clients raise anything
                wrong = str(error) or repr(error)
            if not told and time.time() - child.started_at > TELL_AFTER:
                told = True
                self._terminal.warn(f"{self.state.instance} is not ready yet: {wrong}. {self._where_to_look()}")
            if not self._first.done() and time.time() - child.started_at > self._ready_within:
                self._give_up(f"not ready within {self._ready_within:g} s: {wrong}")
                return
            await asyncio.sleep(_PROBE_SECONDS)
        else:
            return
        self._enter("ready")
        took = time.time() - child.started_at
        again = f" again, restart {self.state.restarts}" if self.state.restarts else ""
        self._terminal.done(f"{self.state.instance} is ready{again} ({took:.1f} s)")
        if not self._first.done():
            self._first.set_result(None)
        await self._guard(child)

    async def _guard(self, child: Child) -> None:
        """Kill the process when it is frozen; then it starts again like one that died."""
        failed, since, every = 0, 0.0, min(_HEALTH_SECONDS, self._frozen_after / _FAILED_ANSWERS)
        while (pid := child.pid) is not None:
            await asyncio.sleep(every)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    await self._launch.answer(pid)
            except (TimeoutError, ConnectionError) as error:
                since = since if failed else asked
                failed += 1
                # Both: after a pause of this machine or of our own, a single late answer looks like a long silence.
                silent = time.monotonic() - since
                if failed >= _FAILED_ANSWERS and silent >= self._frozen_after:
                    self._killed_for = f"frozen: no answer for {silent:.0f} s ({str(error) or 'timed out'})"
                    child.signal(signal.SIGKILL)
                    return
            except Exception:  # noqa: BLE001 - an error is an answer too
                failed = 0
            else:
                failed = 0

    def _give_up(self, how: str) -> None:
        words = self._child.last_words() if self._child is not None else ""
        self._enter("ended", last_end=how)
        self._first.set_exception(
            StartError(f"{self.state.instance} does not start ({how}). {self._where_to_look()} It ends with:\n{words}")
        )

    def _where_to_look(self) -> str:
        return f"Its log: {self._child.command.log}." if self._child is not None else ""
