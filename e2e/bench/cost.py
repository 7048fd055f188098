"""What the platform's processes cost: processor time and memory, read from the operating system."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import psutil

from e2e.running import Octopus

# `octopus up` itself.
SUPERVISOR = "supervisor"

Processes = Mapping[str, list[psutil.Process]]
"""By instance: its process, and that one's children. PostgreSQL has one for each connection."""


def processes(octopus: Octopus) -> dict[str, list[psutil.Process]]:
    """Return what runs now."""
    found = octopus.status()
    running: dict[str, list[psutil.Process]] = {SUPERVISOR: [psutil.Process(int(found["supervisor"]))]}
    for each in found["processes"]:
        if each["pid"]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(each["pid"]))
                running[each["instance"]] = [process, *process.children(recursive=True)]
    return running


def cpu_s(of: Processes) -> dict[str, float]:
    """Return the processor seconds used so far."""
    return {name: sum(_cpu_s(each, reaped=name != SUPERVISOR) for each in found) for name, found in of.items()}


def memory_mb(of: Processes) -> dict[str, float]:
    """Return the memory that would be free if they ended, in MiB."""
    return {name: sum(map(_own_bytes, found)) / 2**20 for name, found in of.items()}


def _own_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_full_info().uss)
    return 0


def _cpu_s(process: psutil.Process, *, reaped: bool) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        # Children that have ended are counted with their parent.
        return float(times.user + times.system + (times.children_user + times.children_system if reaped else 0.0))
    return 0.0
