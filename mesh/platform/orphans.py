"""Processes whose supervisor was killed. They end with it by themselves, some after a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

from mesh.platform.state import ProcessState

_LOOK_SECONDS = 0.05


def living(state: ProcessState) -> psutil.Process | None:
    """Returns the process of a table row if it still runs and is not somebody else under the same number."""
    if state.pid is None or state.started_at is None:
        return None
    try:
        process = psutil.Process(state.pid)
        return process if abs(process.create_time() - state.started_at) < 5 and runs(process) else None
    except psutil.Error:
        return None


def runs(process: psutil.Process) -> bool:
    """Says whether a process runs. One that has ended and waits to be buried by a slow parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def until_ended(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Waits for their end, at most so long; returns those that still run. Blocks: call it in a thread."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        # They are not our children, so nobody tells us.
        time.sleep(_LOOK_SECONDS)
    return left
