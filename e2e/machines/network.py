"""Machines as Linux network namespaces, on one bridge that is also this machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NAMES: Final = ("m1", "m2", "m3")


class NetworkError(Exception):
    """There can be no network namespaces here; the text says what to do."""


class Network:
    """A bridge at 10.77.N.254, and machines at 10.77.N.1 and so on."""

    def __init__(self, number: int) -> None:
        self._number = number
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
                _ip("netns", "del", self._namespace(machine))
        _ip("link", "del", self._bridge)


@contextmanager
def network() -> Iterator[Network]:
    """Make the machines' network, and remove it at the end, whatever happened. Raise NetworkError."""
    if os.geteuid() != 0:
        raise NetworkError("network namespaces need root: run `make machines` as root")
    if missing := [name for name in ("ip", "nsenter", "setpriv") if shutil.which(name) is None]:
        raise NetworkError(f"{', '.join(missing)} not found: apt-get install iproute2 util-linux")
    made = _free()
    try:
        made.make()
        yield made
    finally:
        made.remove()


def _free() -> Network:
    """Make a bridge that nobody has."""
    problem = ""
    for number in range(1, 100):
        try:
            _ip("link", "add", f"octo{number}", "type", "bridge")
        except NetworkError as error:
            problem = str(error)
        else:
            return Network(number)
    raise NetworkError(f"no bridge can be made, this kernel or container may forbid it: {problem}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
