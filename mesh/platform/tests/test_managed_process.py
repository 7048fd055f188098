"""Keeping a process running: when it is ready, what happens when it dies, and when to give up."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from mesh.platform import managed_process
from mesh.platform.child import Command
from mesh.platform.components.component import ComponentError
from mesh.platform.managed_process import ATTEMPTS, ManagedProcess, StartError
from mesh.platform.state import ProcessState
from mesh.platform.terminal import Terminal

pytestmark = pytest.mark.unit

LIVES = "import signal; signal.pause()"


class Script:
    """A launch of a Python one-liner; ready when `ready` says so."""

    def __init__(self, folder: Path, code: str) -> None:
        self.code = code
        self.ready = True
        self.silent = False
        self.grumbles = False
        self.asked = 0
        self.prepared = 0
        self._folder = folder

    async def prepare(self) -> Command:
        self.prepared += 1
        return Command(name="script", argv=(sys.executable, "-c", self.code), log=self._folder / "script.log")

    async def probe(self, pid: int) -> None:
        if not self.ready:
            raise ConnectionError("it is not listening")

    async def complete(self) -> None: ...

    async def answer(self, pid: int) -> None:
        self.asked += 1
        if self.silent:
            raise TimeoutError
        if self.grumbles:
            raise RuntimeError("the database is starting up")


class Broken(Script):
    async def prepare(self) -> Command:
        raise ComponentError("the wheel that brings it is not installed. Run `make install`")


def managed(launch: Script, ready_within: float = 60.0, frozen_after: float = 60.0) -> ManagedProcess:
    state = ProcessState(instance="chat-1", name="chat")
    return ManagedProcess(state, launch, Terminal(), lambda: None, ready_within=ready_within, frozen_after=frozen_after)


async def until(process: ManagedProcess, phase: str, restarts: int) -> None:
    async with asyncio.timeout(20):
        while (process.state.phase, process.state.restarts) != (phase, restarts):
            await asyncio.sleep(0.01)


async def test_a_killed_process_starts_again_after_a_pause_that_grows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = managed(Script(tmp_path, LIVES))
    process.start()
    await process.ready()
    for restart in (1, 2):
        pid = process.state.pid
        process.signal(signal.SIGKILL)
        await until(process, "ready", restart)
        assert process.state.pid != pid
    await process.stop()
    said = capsys.readouterr().out
    assert "chat-1 ended by itself (killed by SIGKILL); it starts again in 0.5 s (restart 1)" in said
    assert "it starts again in 1 s (restart 2)" in said
    assert "chat-1 is ready again, restart 2" in said
    assert process.state.phase == "ended"
    assert process.state.pid is None


async def test_a_process_that_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    launch = Script(tmp_path, "print('no such setting: colour'); raise SystemExit(2)")
    launch.ready = False
    process = managed(launch)
    process.start()
    with pytest.raises(
        StartError, match=r"(?s)chat-1 does not start \(exit code 2\).*script.log.*no such setting: colour"
    ):
        await process.ready()
    assert launch.prepared == ATTEMPTS
    await process.stop()


async def test_a_process_that_is_never_ready_says_what_is_missing(tmp_path: Path) -> None:
    launch = Script(tmp_path, LIVES)
    launch.ready = False
    process = managed(launch, ready_within=0.3)
    process.start()
    with pytest.raises(StartError, match=r"not ready within .*it is not listening"):
        await process.ready()
    await process.stop()


async def test_what_cannot_be_prepared_is_not_tried_again(tmp_path: Path) -> None:
    process = managed(Broken(tmp_path, LIVES))
    process.start()
    with pytest.raises(StartError, match=r"chat-1 cannot be started: the wheel .*make install"):
        await process.ready()
    await process.stop()


async def test_a_second_request_to_stop_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
    process = managed(Script(tmp_path, stubborn))
    process.start()
    await process.ready()
    async with asyncio.timeout(10):
        while "up" not in (tmp_path / "script.log").read_text():
            await asyncio.sleep(0.01)
    stopping = asyncio.create_task(process.stop())
    await until(process, "stopping", 0)
    async with asyncio.timeout(5):
        process.kill()
        await stopping
    assert process.state.phase == "ended"


async def test_stopping_between_two_starts_does_not_wait_for_the_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 30.0)
    process = managed(Script(tmp_path, LIVES))
    process.start()
    await process.ready()
    process.signal(signal.SIGKILL)
    await until(process, "pausing", 1)
    async with asyncio.timeout(20):
        await process.stop()
    assert process.state.phase == "ended"


async def test_a_process_that_answers_with_an_error_is_not_frozen(tmp_path: Path) -> None:
    launch = Script(tmp_path, LIVES)
    process = managed(launch, frozen_after=0.05)
    process.start()
    await process.ready()
    launch.grumbles = True
    pid = process.state.pid
    async with asyncio.timeout(10):
        while launch.asked < 10:
            await asyncio.sleep(0.01)
    assert (process.state.pid, process.state.phase, process.state.restarts) == (pid, "ready", 0)
    await process.stop()


async def test_a_frozen_process_is_killed_and_starts_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch = Script(tmp_path, LIVES)
    process = managed(launch, frozen_after=0.1)
    process.start()
    await process.ready()
    launch.silent = True
    await until(process, "pausing", 1)
    launch.silent = False
    await until(process, "ready", 1)
    assert "chat-1 was killed (frozen: no answer for 0 s (timed out))" in capsys.readouterr().out
    await process.stop()
