"""The machines' network is removed when a run is told to end, and by the next run when it was killed. Needs root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.machines.network import network
from mesh.platform.folder import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

RUN = """
import subprocess, time
from e2e.machines.network import network
with network() as made:
    sleeper = subprocess.Popen(made.on("m1", "sleep", "1000"))
    print(made._bridge, sleeper.pid, flush=True)
    time.sleep(1000)
"""


def start() -> tuple[subprocess.Popen[str], str, int]:
    """Start a run; return it, the name of its bridge, and a process on one of its machines."""
    run = subprocess.Popen((sys.executable, "-c", RUN), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout as said:
        bridge, sleeper = said.readline().split()
    return run, bridge, int(sleeper)


def left_of(bridge: str) -> list[str]:
    """Return what is left of a network."""
    links = [path.name for path in Path("/sys/class/net").glob(f"{bridge}*")]
    return links + [path.name for path in Path("/run/netns").glob(f"{bridge}-*")]


def test_a_run_that_is_told_to_end_leaves_nothing_behind() -> None:
    run, bridge, sleeper = start()
    assert len(left_of(bridge)) == 7
    run.terminate()
    run.wait(30)
    assert left_of(bridge) == []
    assert not Path("/proc", str(sleeper)).exists()


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_of_one_that_lives() -> None:
    dead, left, sleeper = start()
    living, bridge, other = start()
    try:
        dead.kill()
        dead.wait()
        assert len(left_of(left)) == 7
        with network():
            assert not Path("/proc", str(sleeper)).exists()
            assert len(left_of(bridge)) == 7
            assert Path("/proc", str(other)).exists()
        assert left_of(left) == []
    finally:
        living.terminate()
        living.wait(30)
    assert left_of(bridge) == []
