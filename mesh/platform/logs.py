"""The files that processes write to, kept from filling the disk."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import structlog

# A log that grew beyond this is set aside; one older is kept. Bytes.
LIMIT = 50_000_000

_LOOK_SECONDS = 30.0


async def keep_small(folder: Path, *, limit: int = LIMIT, every: float = _LOOK_SECONDS) -> None:
    """Set aside what has grown too large, each `every` seconds, until cancelled."""
    while True:
        await asyncio.to_thread(set_aside, folder, limit)
        await asyncio.sleep(every)


def set_aside(folder: Path, limit: int) -> None:
    """Copy each log beyond the limit to `<name>.log.1` and empty it.

    Emptied, not moved: its process has it open for appending and goes on at the new end. What is written between the
    copy and the emptying is lost.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+b") as file:
                file.truncate(0)


def log_to(path: Path) -> None:
    """Send what libraries of this process log to a file; the terminal is for what its reader can act on."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(handler.stream))
