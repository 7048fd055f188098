"""Commands of `octopus` that live elsewhere. Each is a module that `python -m` runs with the rest of the line.

By name, not by import: the mesh knows no service and no edge, and `octopus --help` stays quick. The module finds the
platform by the environment variable OCTOPUS_ROOT (`mesh.platform.folder.running`), which `octopus --root DIR` sets, and
the operator's settings in `config/operator.toml` there.
"""

from __future__ import annotations

from typing import Final

# Name, module, what it does.
COMMANDS: Final = (
    ("mesh", "mesh.platform.mesh_command", "网格与分流 See the mesh, shift traffic."),
    ("knowledge", "services.knowledge.cli", "导入知识 Import answers."),
    ("demo", "e2e.demo", "演示会话 Play a conversation."),
)
