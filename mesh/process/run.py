"""Run a process: settings, log, signals, shutdown."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import structlog
import uvloop

from mesh.process.config import ConfigError, ServiceConfig
from mesh.process.member import Member
from mesh.telemetry.logs import configure_logging

C = TypeVar("C", bound=ServiceConfig)

App = Callable[[Member, C], AbstractAsyncContextManager[None]]
"""Wires a service: open, construct, serve, yield, close."""

_log = structlog.get_logger(__name__)

_GOOD: Final = 0
_FAILED: Final = 1
# What the shell's own commands answer to arguments they do not understand.
_MISUSED: Final = 2


def run(app: App[C], settings: type[C], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a process until SIGTERM or SIGINT ends it in order; a second signal ends it at once.

    Reads `--config FILE`. The exit code is 0 after an orderly end, 2 when the settings cannot be used, and 1 when the
    process could not start, or one of its tasks has died.
    """
    parser = argparse.ArgumentParser(description=f"A process of the Octopus mesh, with {settings.__name__}.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="its settings, in TOML")
    path: Path = parser.parse_args(arguments).config
    try:
        config = settings.read(path)
    except ConfigError as error:
        sys.exit(_say(str(error), _MISUSED))
    configure_logging(config.name, config.instance, config.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Life(app, config).live())
    sys.exit(code)


class _Life:
    def __init__(self, app: App[C], config: C) -> None:
        self._open: Callable[[Member], AbstractAsyncContextManager[None]] = lambda member: app(member, config)
        self._config = config
        self._stop = asyncio.Event()
        self._up = False
        self._whole: asyncio.Task[int] | None = None

    async def live(self) -> int:
        self._whole = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            await self._between_start_and_stop()
        except asyncio.CancelledError:
            # Only `_signalled` cancels, while the start is under way.
            _log.info("stopped before it was up")
        except Exception as error:  # noqa: BLE001 -- the last frame there is: it tells, and ends the process
            _log.error("process failed", exc_info=error)
            return _say(f"{self._config.instance}: {type(error).__name__}: {error}", _FAILED)
        else:
            _log.info("stopped")
        return _GOOD

    async def _between_start_and_stop(self) -> None:
        async with Member(self._config) as member, self._open(member):
            self._up = True
            # Objects that live as long as the process are excluded from garbage collection.
            gc.collect()
            gc.freeze()
            _log.info("up", pid=os.getpid(), version=self._config.version)
            try:
                await member.until(self._stop)
            finally:
                await member.finish()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            _log.warning("second signal, ending at once", signal=number.name)
            os._exit(_FAILED)
        _log.info("stopping", signal=number.name, grace_s=self._config.shutdown_grace_s)
        self._stop.set()
        if not self._up and self._whole is not None:
            self._whole.cancel()


def _say(text: str, code: int) -> int:
    # For a start by hand, and for the supervisor's terminal; the log has the details.
    print(text, file=sys.stderr, flush=True)
    return code
