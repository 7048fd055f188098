"""Processes whose supervisor was killed. They end with it, some after a moment."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from mesh.platform.state import ProcessState


def living(state: ProcessState) -> psutil.Process | None:
    """Return the process of a table row if it still runs and is not somebody else under the same number."""
    if state.pid is None or state.started_at is None:
        return None
    try:
        process = psutil.Process(state.pid)
        return process if abs(process.create_time() - state.started_at) < 5 and runs(process) else None
    except psutil.Error:
        return None


def runs(process: psutil.Process) -> bool:
    """Say whether a process runs. One that has ended and waits to be reaped by a slow parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def until_ended(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for their end, at most so long; return those that still run. Blocks: call it in a thread."""
    _, left = psutil.wait_procs([process for process in processes if runs(process)], timeout=seconds)
    return [process for process in left if runs(process)]
