"""Machines as Linux network namespaces, on one bridge that is also this machine's.

Whoever makes them holds a lock for as long as it lives, so what a killed run has left behind is told from what another
run uses now, and removed at the next start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import psutil
from filelock import FileLock, Timeout

NAMES: Final = ("m1", "m2", "m3")


class NetworkError(Exception):
    """There can be no network namespaces here; the text says what to do."""


class Network:
    """A bridge at 10.77.N.254, and machines at 10.77.N.1 and so on. `lock` is held while it is used."""

    def __init__(self, number: int, lock: FileLock) -> None:
        self._number = number
        self._lock = lock
        self._bridge = f"octo{number}"

    def address(self, machine: str) -> str:
        """Return a machine's IP address."""
        return f"{self.subnet}.{NAMES.index(machine) + 1}"

    @property
    def subnet(self) -> str:
        """Return the first three bytes of everybody's address."""
        return f"10.77.{self._number}"

    def on(self, machine: str, *argv: str) -> tuple[str, ...]:
        """Return the command that runs `argv` on a machine."""
        return ("/usr/bin/env", "nsenter", f"--net=/run/netns/{self._namespace(machine)}", *argv)

    def cut(self, machine: str) -> None:
        """Pull a machine's cable: packets vanish, nobody is told."""
        _ip("link", "set", self._cable(machine), "nomaster")

    def heal(self, machine: str) -> None:
        """Plug the cable in again."""
        _ip("link", "set", self._cable(machine), "master", self._bridge)

    def _namespace(self, machine: str) -> str:
        return f"{self._bridge}-{machine}"

    def _cable(self, machine: str) -> str:
        return f"{self._bridge}{machine}"

    def make(self) -> None:
        """Make the namespaces, and the cables from the bridge to them."""
        _ip("addr", "add", f"{self.subnet}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for machine in NAMES:
            namespace, cable = self._namespace(machine), self._cable(machine)
            _ip("netns", "add", namespace)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", cable, "master", self._bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(machine)}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove what was made, also when that was not all."""
        for machine in NAMES:
            # By itself it would go some time after its namespace.
            if Path("/sys/class/net", self._cable(machine)).exists():
                _ip("link", "del", self._cable(machine))
            if Path("/run/netns", self._namespace(machine)).exists():
                end_processes(self._namespace(machine))
                _ip("netns", "del", self._namespace(machine))
        if Path("/sys/class/net", self._bridge).exists():
            _ip("link", "del", self._bridge)
        self._lock.release()


@contextmanager
def network() -> Iterator[Network]:
    """Make the machines' network, and remove it at the end, whatever happened. Raise NetworkError.

    Meanwhile SIGTERM ends this process as Ctrl-C does.
    """
    if os.geteuid() != 0:
        raise NetworkError("network namespaces need root: run `make machines` as root")
    if missing := [name for name in ("ip", "nsenter", "setpriv") if shutil.which(name) is None]:
        raise NetworkError(f"{', '.join(missing)} not found: apt-get install iproute2 util-linux")
    remove_left_behind()
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        made = _free()
        try:
            made.make()
            yield made
        finally:
            made.remove()
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Once: what it begins is the removal.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def remove_left_behind() -> None:
    """Remove the networks of runs that are dead, with the processes on their machines."""
    for path in Path("/sys/class/net").glob("octo*"):
        if path.name.removeprefix("octo").isdecimal():
            number = int(path.name.removeprefix("octo"))
            with suppress(Timeout):
                Network(number, _locked(number)).remove()


def end_processes(namespace: str) -> None:
    """Kill what runs in a namespace."""
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    found = []
    for pid in done.stdout.split():
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
            found[-1].kill()
    psutil.wait_procs(found, timeout=10)


def _free() -> Network:
    """Make a bridge that nobody has."""
    problem = ""
    for number in range(1, 100):
        try:
            lock = _locked(number)
        except Timeout:
            continue
        try:
            _ip("link", "add", f"octo{number}", "type", "bridge")
        except NetworkError as error:
            problem = str(error)
            lock.release()
        else:
            return Network(number, lock)
    raise NetworkError(f"no bridge can be made, this kernel or container may forbid it: {problem}")


def _locked(number: int) -> FileLock:
    """Take a network for this process, which the kernel takes back when it dies. Raise Timeout."""
    lock = FileLock(Path("/run", f"octopus-machines-{number}.lock"))
    lock.acquire(blocking=False)
    return lock


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
