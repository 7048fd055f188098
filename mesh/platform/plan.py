"""What to start, in which order and with which settings: the manifests made concrete for one runtime folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.manifest import Demo, Manifest
from mesh.platform.components.component import Component
from mesh.platform.components.envoy import Envoy
from mesh.platform.components.nats import Nats
from mesh.platform.components.postgres import Postgres
from mesh.platform.components.valkey import Valkey
from mesh.platform.durability import Durability
from mesh.platform.folder import Folder
from mesh.platform.launch import ComponentLaunch, MemberLaunch
from mesh.platform.managed_process import Launch
from mesh.platform.settings import write_settings
from mesh.platform.state import State
from mesh.stores.keyring import add_key

# The public certificate: `<edge folder>/public/cert.pem`.
PUBLIC = "public"

Serving = Callable[[], dict[str, int]]


@dataclass(frozen=True)
class Planned:
    """One process to be."""

    # Unique, e.g. "chat-2".
    instance: str
    # What it is a copy of.
    name: str
    launch: Launch


class Plan:
    """The components and members of one platform, with their ports."""

    def __init__(
        self,
        folder: Folder,
        state: State,
        *,
        programs: Mapping[str, Manifest],
        edge_port: int,
        copies: Mapping[str, int],
        settings: Mapping[str, Mapping[str, object]],
        durability: Durability,
    ) -> None:
        """Choose the ports; write nothing. `settings`, by program, replace the usual ones."""
        self._folder = folder
        self._state = state
        self._programs = programs
        self._copies = copies
        self._settings = settings
        self.edge_port = edge_port
        self._control_port = state.port("control")
        self._edge_metrics_port = state.port("edge-metrics")
        self.postgres = Postgres(folder, state.port("postgres"))
        self.valkey = Valkey(folder, state.port("valkey"))
        self.nats = Nats(folder, state.port("nats"), state.port("nats-monitor"), durability=durability)
        self.envoy = Envoy(folder, self._edge_metrics_port)

    @property
    def origin(self) -> str:
        """Return where browsers find the platform."""
        return f"https://localhost:{self.edge_port}"

    def components(self) -> list[Planned]:
        """Return what everything else needs."""
        needed: tuple[Component, ...] = (self.postgres, self.valkey, self.nats)
        return [Planned(component.name, component.name, ComponentLaunch(component)) for component in needed]

    def stages(self, serving: Serving) -> list[list[Planned]]:
        """Return the members stage by stage, the edge in the last."""
        numbers = sorted({program.stage for program in self._programs.values()})
        stages = [
            [
                self._planned(program, version, number, serving)
                for program in self._programs.values()
                if program.stage == stage
                for version, copies in self._versions(program)
                for number in range(1, copies + 1)
            ]
            for stage in numbers
        ]
        stages[-1].append(Planned(self.envoy.name, self.envoy.name, ComponentLaunch(self.envoy)))
        return stages

    def _versions(self, program: Manifest) -> list[tuple[str, int]]:
        """Return how many copies of each version to run; the usual version has no name."""
        asked = [(key.partition("@"), copies) for key, copies in self._copies.items()]
        return [(version, copies) for (name, _, version), copies in asked if name == program.name]

    def _planned(self, program: Manifest, version: str, number: int, serving: Serving) -> Planned:
        instance = "-".join(filter(None, (program.name, version, str(number))))
        launch = MemberLaunch(
            self._folder,
            instance=instance,
            module=program.module,
            settings=lambda: self.write_member_settings(program, instance, version or "v1"),
            serving=serving,
        )
        return Planned(instance, program.name, launch)

    def write_member_settings(self, program: Manifest, instance: str, version: str) -> None:
        """Write the settings file of one copy of a member, and its key file when it is new."""
        values = {**self._common(program.name, instance), "version": version}
        # Kept from one start to the next, so that a collector's list of addresses stays true.
        values["metrics_port"] = self._state.port(f"{instance} metrics")
        if program.name == "control":
            values |= {
                "port": self._control_port,
                "bus_bytes": self.nats.stream_bytes(),
                "bus_folder": self.nats.folder,
                "envoy_folder": self.envoy.settings,
                "http_socket": self.envoy.http_socket,
                "edge_port": self.edge_port,
                "edge_metrics_port": self._edge_metrics_port,
                "public_folder": self._folder.edge,
                "public_name": PUBLIC,
            }
        if "postgres" in program.stores:
            values["postgres"] = self.postgres.conninfo
        if "valkey" in program.stores:
            values["valkey_url"] = self.valkey.url
            values["valkey_password_file"] = self.valkey.password_file(program.name)
        if "keyring" in program.stores:
            keyring = self._folder.secrets / f"keyring-{program.name}"
            if not keyring.exists():
                add_key(keyring)
            values["keyring_file"] = keyring
        values |= {key: self.fill(value) for key, value in program.settings.items()}
        values |= self._settings.get(program.name, {})
        write_settings(self._folder.config / f"{instance}.toml", values)

    def write_operator_settings(self) -> Path:
        """Write the settings of the `octopus` command and of tests from outside; return the file."""
        path = self._folder.config / "operator.toml"
        write_settings(path, self._common("operator", "operator-1"))
        return path

    def _common(self, name: str, instance: str) -> dict[str, object]:
        return {
            "name": name,
            "instance": instance,
            "identity": self._folder.identity,
            "nats_url": self.nats.url,
            "xds": f"127.0.0.1:{self._control_port}",
        }

    def demos(self) -> list[tuple[str, Demo]]:
        """Return the demo programs in their order, each with the name of the program whose settings it gets."""
        found = [(name, program.demo) for name, program in self._programs.items() if program.demo is not None]
        return sorted(found, key=lambda each: each[1].order)

    def demo_arguments(self, name: str, demo: Demo) -> list[str]:
        """Return the command line of a demo program after `python -m`."""
        settings = self._folder.config / f"{name}-1.toml"
        return [demo.module, "--config", str(settings), *(str(self.fill(argument)) for argument in demo.arguments)]

    def fill(self, value: object) -> object:
        """Replace the placeholders in a setting."""
        if not isinstance(value, str):
            return value
        return value.replace("{root}", str(self._folder.root)).replace("{edge}", self.origin)
