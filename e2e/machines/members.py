"""Which program runs on which machine, and with which settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from e2e.machines.network import NAMES, Network
from e2e.machines.stores import Bus, Database, LiveState
from mesh.atomic_file import write
from mesh.manifest import manifests
from mesh.platform.child import Command
from mesh.platform.components.envoy import program as envoy_program
from mesh.platform.folder import REPOSITORY, Folder
from mesh.platform.launch import environment
from mesh.platform.settings import write_settings
from mesh.stores.keyring import add_key

# Two of each that people talk through, never on the same machine. What runs once is not on one of those that are cut
# off, but for the bot and its knowledge: without them people still talk.
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "m1": ("user", "session", "presence", "chat", "archive", "bridge"),
    "m2": ("user", "session", "presence", "chat", "archive", "bridge"),
    "m3": ("knowledge", "bot", "moderation", "pages", "reflection"),
}
CONTROL: Final = "m3"
EDGES: Final = ("m1", "m2")

EDGE_PORT, EDGE_METRICS = 8443, 9901
_CONTROL_PORT = 7000

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - as on a machine of its own

# People are many behind one address.
_LIMITS = ("identify_per_minute", "credentials_per_minute", "tokens_per_minute", "streams_per_minute")
_MANY = 1_000_000


class Members:
    """The members' settings and commands."""

    def __init__(
        self,
        network: Network,
        folders: Mapping[str, Folder],
        *,
        identity: Path,
        public: Path,
        bus: Bus,
        database: Database,
        live_state: LiveState,
    ) -> None:
        self._network = network
        self._folders = folders
        self._identity = identity
        self._public = public
        self._bus = bus
        self._database = database
        self._live_state = live_state

    @staticmethod
    def make_keys(folder: Folder) -> None:
        """Make the keys that seal data, which all machines share."""
        for name, program in manifests().items():
            if "keyring" in program.stores:
                add_key(folder.secrets / f"keyring-{name}")

    def instances(self) -> set[str]:
        """Return who is in the registry when all run."""
        return {f"{name}-{machine}" for machine in NAMES for name in self._on(machine)}

    def commands(self, machine: str) -> list[Command]:
        """Write the settings of what runs on a machine and return how to run it."""
        return [self._command(machine, name) for name in self._on(machine)]

    def settings(self, machine: str, name: str) -> Path:
        """Return the settings file of a program on a machine."""
        return self._folders[machine].config / f"{name}.toml"

    def edge(self, machine: str) -> Command:
        """Give a machine the Envoy settings that the control process has written, and return how to run Envoy there."""
        written = self._envoy_folder / "envoy.json"
        own = self._folders[machine].config / "edge"
        own.mkdir(exist_ok=True)
        # On machines of their own, all would have the same path.
        text = written.read_text().replace(f"{self._envoy_folder}/admin.sock", f"{own}/admin.sock")
        write(own / "envoy.json", text)
        argv = (str(envoy_program()), "--config-path", str(own / "envoy.json"), "--concurrency", "2")
        return Command(
            name=f"edge-{machine}",
            argv=self._network.on(machine, *argv, "--disable-hot-restart", "--log-level", "warning"),
            log=self._folders[machine].log / "edge.log",
            grace_s=5,
        )

    @property
    def _envoy_folder(self) -> Path:
        return self._folders[CONTROL].config / "envoy"

    @staticmethod
    def _on(machine: str) -> tuple[str, ...]:
        return (*(("control",) if machine == CONTROL else ()), *PLACES[machine])

    def _command(self, machine: str, name: str) -> Command:
        program, folder = manifests()[name], self._folders[machine]
        # Its own server first; the others when that one is away.
        urls = [self._bus.urls[machine], *(url for other, url in self._bus.urls.items() if other != machine)]
        values: dict[str, object] = {
            "name": name,
            "instance": f"{name}-{machine}",
            "host": _EVERYWHERE,
            "advertised_host": self._network.address(machine),
            "identity": self._identity,
            "nats_url": ",".join(urls),
            "xds": f"{self._network.address(CONTROL)}:{_CONTROL_PORT}",
        }
        if name == "control":
            values |= {
                "port": _CONTROL_PORT,
                # Nobody else makes streams.
                "stream_replicas": len(NAMES),
                "bus_bytes": 2**30,
                "envoy_folder": self._envoy_folder,
                "edge_host": _EVERYWHERE,
                "edge_port": EDGE_PORT,
                "edge_metrics_host": _EVERYWHERE,
                "edge_metrics_port": EDGE_METRICS,
                "public_folder": self._public,
                "public_name": "public",
                **dict.fromkeys(_LIMITS, _MANY),
            }
        if name == "user":
            values |= {"visitors_per_minute_per_address": _MANY, "visitors_per_minute_per_shop": _MANY}
        if "postgres" in program.stores:
            values["postgres"] = self._database.conninfo
        if "valkey" in program.stores:
            values["valkey_url"] = self._live_state.url
            values["valkey_password_file"] = folder.secrets / f"valkey-{name}"
        if "keyring" in program.stores:
            values["keyring_file"] = folder.secrets / f"keyring-{name}"
        write_settings(self.settings(machine, name), values)
        return self.python(machine, name, program.module, "--config", str(self.settings(machine, name)))

    def python(self, machine: str, name: str, module: str, *arguments: str) -> Command:
        """Return how to run a module of ours on a machine."""
        return Command(
            name=f"{name}-{machine}",
            argv=self._network.on(machine, sys.executable, "-m", module, *arguments),
            log=self._folders[machine].log / f"{name}.log",
            env=environment(),
            cwd=REPOSITORY,
            grace_s=20,
        )


def logins(file: Path) -> dict[str, object]:
    """Return the log-ins that the demo has made, by shop."""
    found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))["shops"]
    return found
