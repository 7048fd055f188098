"""The state of the mesh from which the resources for clients are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from octopus.mesh.v1 import registry_pb2


@dataclass(frozen=True)
class Endpoint:
    """Where an instance listens, and its share of its version's traffic."""

    host: str
    port: int
    weight: int
    # Path of a Unix domain socket where it listens too; empty for none.
    socket: str = ""


@dataclass(frozen=True)
class Service:
    """A service and all versions of it that were ever registered."""

    name: str
    # Instances that accept calls, in a fixed order; none for a version without running instances.
    versions: Mapping[str, tuple[Endpoint, ...]]
    # Share of the calls by version; never empty, and names versions without endpoints only when there are no others.
    weights: Mapping[str, int]

    def others(self, version: str) -> list[str]:
        """Return the versions that stand in for one that cannot be reached, the one with the most calls first."""
        return sorted(self.versions.keys() - {version}, key=lambda other: (-self.weights.get(other, 0), other))


@dataclass(frozen=True)
class Picture:
    """Everything that clients are configured with."""

    services: tuple[Service, ...]
    # The public keys of access tokens; None before the first were published.
    jwks: str | None


@dataclass
class Painter:
    """Makes pictures.

    Versions stay, once seen: a cluster whose instances are gone must stay, empty, until no client routes to it, which
    is unknown while a client is disconnected.
    """

    # Services that exist even before an instance of them was seen: calling one then fails at once, not after a timeout.
    expected: Iterable[str]
    _seen: dict[str, set[str]] = field(default_factory=dict)

    def paint(
        self,
        instances: Iterable[registry_pb2.Instance],
        splits: Mapping[str, Mapping[str, int]],
        jwks: str | None,
    ) -> Picture:
        """Return the current picture."""
        live: dict[str, dict[str, list[Endpoint]]] = {name: {} for name in self.expected}
        for instance in instances:
            self._seen.setdefault(instance.service, set()).add(instance.version)
            if instance.health == registry_pb2.HEALTH_SERVING:
                endpoint = Endpoint(instance.host, instance.port, max(1, instance.weight), instance.socket)
                live.setdefault(instance.service, {}).setdefault(instance.version, []).append(endpoint)
        services = []
        for name in sorted(live.keys() | self._seen.keys()):
            running = live.get(name, {})
            known = sorted(self._seen.get(name) or {"v1"})
            versions = {version: tuple(running.get(version, ())) for version in known}
            services.append(Service(name, versions, _weights(versions, splits.get(name, {}))))
        return Picture(tuple(services), jwks)


def _weights(versions: Mapping[str, tuple[Endpoint, ...]], percent: Mapping[str, int]) -> dict[str, int]:
    running = {version: endpoints for version, endpoints in versions.items() if endpoints}
    wanted = {version: percent[version] for version in running if percent.get(version, 0) > 0}
    if wanted:
        return wanted
    # Without a split, or when none of its versions runs: each instance by its own weight.
    return {version: sum(e.weight for e in endpoints) for version, endpoints in running.items()} or dict.fromkeys(
        versions, 1
    )
