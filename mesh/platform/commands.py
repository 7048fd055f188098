"""Commands of `octopus` that live elsewhere. Each is a module that `python -m` runs with the rest of the line.

By name, not by import: the mesh knows no service and no edge, and `octopus --help` stays quick. The module finds the
platform by the environment variable OCTOPUS_ROOT (`mesh.platform.folder.running`), which `octopus --root DIR` sets, and
the operator's settings in `config/operator.toml` there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.manifest import OctopusCommand, manifests

_OWN: Final = (
    OctopusCommand(name="mesh", module="mesh.platform.mesh_command", help="网格与分流 See the mesh, shift traffic."),
    OctopusCommand(name="ca", module="mesh.identity.issuer", help="证书机构 Issue certificates for several machines."),
    OctopusCommand(name="demo", module="e2e.demo", help="演示会话 Play a conversation."),
)


def commands() -> Iterator[OctopusCommand]:
    """Yield the platform's own commands, then those of the manifests. Raise ManifestError."""
    yield from _OWN
    for program in manifests().values():
        yield from program.commands
