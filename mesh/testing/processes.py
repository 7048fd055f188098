"""Questions to processes of which any may end meanwhile, such as PostgreSQL's process for a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import psutil

Answer = TypeVar("Answer")


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; empty when it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def answers(processes: Iterable[psutil.Process], ask: Callable[[psutil.Process], Answer]) -> list[Answer]:
    """Ask each process, e.g. `psutil.Process.name`; leave out those that have ended."""
    found = []
    for process in processes:
        try:
            found.append(ask(process))
        except psutil.NoSuchProcess:
            continue
    return found


def frozen(pid: int) -> bool:
    """Say whether every thread of a process is stopped. One that has ended does nothing either."""
    return all(_still(stat) for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def _still(stat: Path) -> bool:
    try:
        # The state is the first field after the name, which stands in parentheses.
        return stat.read_text().rpartition(")")[2].split()[0] in "TZX"
    except OSError:
        return True
