"""One child process: started on a leash, its output in a file, stopped within a grace."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")

# Of these, children get those of ours and nothing else, so that a start does not depend on somebody's shell.
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Command:
    """What to run, and how to end it."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    # Asks it to finish; also what it gets when we die.
    stop_signal: signal.Signals = signal.SIGTERM
    # How long it may take to finish before it is killed, in seconds.
    grace_s: float = 15.0
    # Whom it runs as; None keeps our user. Only root may set it.
    uid: int | None = None


def leashed(argv: Sequence[str], *, uid: int | None, stop_signal: signal.Signals = signal.SIGTERM) -> tuple[str, ...]:
    """Return the command on a leash: it ends with us, and runs as another user where one is named.

    It changes the user by itself, after a plain exec: a fork of a process with gRPC's threads may abort.
    """
    user = "-1" if uid is None else str(uid)
    return (sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(int(stop_signal)), user, *argv)


class Child:
    """A command that is running or was. Start it from the main thread: the leash follows the thread that starts."""

    def __init__(self, command: Command) -> None:
        """Do not start it."""
        self.command = command
        self.started_at = 0.0
        # Where its output begins in the log, which is kept over starts.
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return its process id, None before the start and after the end."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Return how it ended: its code, minus the signal's number when one ended it, None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it, in a session of its own so that a Ctrl-C at the terminal reaches us alone."""
        command = self.command
        command.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with command.log.open("ab") as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(
                leashed(command.argv, uid=command.uid, stop_signal=command.stop_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=command.cwd,
                env={**environment, **command.env},
                start_new_session=True,
            )
        self.started_at = time.time()

    async def wait(self) -> int:
        """Wait for its end and return the exit code, minus the signal's number when a signal ended it."""
        if (process := self._process) is None:
            raise RuntimeError(f"{self.command.name} was not started")
        if process.poll() is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            descriptor = os.pidfd_open(process.pid)
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def stop(self) -> int | None:
        """Ask it to finish, kill it when its grace is over, and return the exit code; None when it never ran."""
        if self._process is None:
            return None
        self.signal(self.command.stop_signal)
        try:
            async with asyncio.timeout(self.command.grace_s):
                return await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.wait()

    def last_words(self, lines: int = 8) -> str:
        """Return the end of its output since its start, for a message that says why it died."""
        try:
            with self.command.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                # A log that was put aside and begun anew is shorter.
                begin = self._log_begin if self._log_begin <= size else 0
                file.seek(max(begin, size - 8192))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def describe_exit(code: int) -> str:
    """Put an exit code into words: `exit code 3`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
