"""Where NATS stages atomic batches: in memory, because it synchronizes every file of a batch to a disk.

A batch is collected in a small file store of its own before its messages are written to the stream (NATS 2.15,
`newBatchStore`): five synchronizations and more, for files that are removed a moment later. They must not outlive a
power cut: a batch that was cut off is not acknowledged, and its publisher sends its messages again under the same
message ids. So `batches` in a stream's folder becomes a link into a memory file system, where synchronizing costs
nothing. Without one (not Linux), NATS makes the folder itself, and batches cost more.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from mesh.bus.fence import SUBJECTS

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a folder of our own in it, which only we may enter
# How often, and after which pause in seconds, an unused `batches` folder is looked for while batches come.
_ATTEMPTS: Final = 50
_PAUSE_S: Final = 0.02


async def stage_in_memory(data: Path) -> None:
    """Link the folders for batches below a running server's `data` into memory, where there is a file system there.

    NATS removes the links when it opens its streams, so this is repeated after each start. A folder is replaced only
    while it is empty: nothing happens to batches under way.
    """
    if not os.access(_MEMORY, os.W_OK):
        return
    # One for all servers of this user: the names of the batches are random.
    memory = _MEMORY / f"octopus-nats-{os.getuid()}"
    memory.mkdir(mode=0o700, exist_ok=True)
    if memory.is_symlink() or memory.stat().st_uid != os.getuid():
        return
    links = [data / "jetstream" / "$G" / "streams" / stream / "batches" for stream in SUBJECTS]
    for link in links:
        await _link(link, memory)


async def _link(link: Path, memory: Path) -> None:
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        if link.is_symlink():
            return
        with suppress(OSError):
            if link.exists():
                link.rmdir()
            link.symlink_to(memory)
            return
        await asyncio.sleep(_PAUSE_S)
