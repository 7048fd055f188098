"""Write the settings file of a process, as `mesh.process.config` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mesh.atomic_file import write


def write_settings(path: Path, values: Mapping[str, object]) -> None:
    """Write a TOML file of strings, numbers, truth values, paths and flat tables; None is left out."""
    plain, tables = [], []
    for key, value in values.items():
        if isinstance(value, Mapping):
            tables += ["", f"[{key}]", *(f"{json.dumps(str(name))} = {_scalar(item)}" for name, item in value.items())]
        elif value is not None:
            plain.append(f"{key} = {_scalar(value)}")
    write(path, "\n".join([*plain, *tables]) + "\n", mode=0o600)


def _scalar(value: object) -> str:
    # JSON's strings, numbers and truth values are TOML's too, once nothing is escaped as a surrogate pair.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
