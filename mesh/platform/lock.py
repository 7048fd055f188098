"""One supervisor per runtime folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from mesh.platform.folder import Folder


class AlreadyRunningError(Exception):
    """Another supervisor holds the folder."""

    def __init__(self, folder: Folder, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "another process"
        stop = f"kill {pid}" if pid is not None else "Ctrl-C in its terminal"
        super().__init__(
            f"the platform in {folder.root} already runs ({who}). `octopus status` shows it; stop it with "
            f"Ctrl-C in its terminal or `{stop}`; a second platform needs its own `--root DIR` and `--edge-port N`"
        )


@contextmanager
def held(folder: Folder) -> Iterator[int | None]:
    """Hold the folder's lock; yield the process id of a holder that did not end in good order, else None.

    The kernel frees the lock with its holder, however that dies, so a file that is left behind locks nobody out.
    Raise AlreadyRunningError.
    """
    lock = FileLock(folder.lock)
    try:
        acquired = lock.acquire(blocking=False)
    except Timeout as error:
        raise AlreadyRunningError(folder, holder(folder)) from error
    with acquired:
        before = holder(folder)
        folder.lock.write_text(f"{os.getpid()}\n")
        try:
            yield before
        finally:
            # Empty says: ended in good order.
            folder.lock.write_text("")


def holder(folder: Folder) -> int | None:
    """Return the process id in the lock file; it may be dead. None when the last holder ended in good order."""
    try:
        return int(folder.lock.read_text())
    except (OSError, ValueError):
        return None
