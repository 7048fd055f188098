"""What `octopus up` is asked for in words: copies by `--instances`, settings by `--set`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping

from mesh.manifest import Manifest
from mesh.platform.folder import REPOSITORY
from mesh.platform.launch import environment

_MOST_COPIES = 16


class OptionError(ValueError):
    """A request for copies or settings that cannot be met."""


def copies(request: str, programs: Mapping[str, Manifest]) -> dict[str, int]:
    """Read `chat=2,bridge=2,chat@v2=1` and return how many copies of each program to run. Raise OptionError.

    Copies of another version than v1 stand under `name@version`: a canary, which `octopus mesh weight` gives traffic.
    """
    wanted = {name: program.copies for name, program in programs.items()}
    for part in filter(None, (item.strip() for item in request.split(","))):
        key, _, number = part.partition("=")
        name, at, version = key.partition("@")
        if name not in programs:
            raise OptionError(f"--instances: there is no {name!r}; there are {', '.join(sorted(programs))}")
        if not number.isdecimal() or not 0 <= int(number) <= _MOST_COPIES:
            raise OptionError(f"--instances: {part!r} should be {name}=N with N from 0 to {_MOST_COPIES}")
        if at and not re.fullmatch(r"v[0-9]{1,6}", version):
            raise OptionError(f"--instances: {version!r} is no version; write {name}@v2={number}")
        if not programs[name].many and (at or int(number) > 1):
            raise OptionError(f"--instances: {name} runs once; leave it out")
        wanted[key] = int(number)
    return wanted


def settings(requests: Iterable[str], programs: Mapping[str, Manifest]) -> dict[str, dict[str, object]]:
    """Read `chat.rate_per_second=100` and return settings by program. Raise OptionError.

    `check` says whether a program has such a setting and takes such a value.
    """
    wanted: dict[str, dict[str, object]] = {}
    for request in requests:
        where, assigned, value = request.partition("=")
        name, _, key = where.partition(".")
        if not key.isidentifier() or not assigned:
            raise OptionError(f"--set: {request!r} should be PROGRAM.SETTING=VALUE, as chat.rate_per_second=100")
        if name not in programs:
            raise OptionError(f"--set: there is no {name!r}; there are {', '.join(sorted(programs))}")
        wanted.setdefault(name, {})[key] = _value(value)
    return wanted


def check(wanted: Mapping[str, Mapping[str, object]], programs: Mapping[str, Manifest]) -> None:
    """Have the settings checked by the classes that will read them, before anything starts. Raise OptionError."""
    wrong = []
    for name, values in wanted.items():
        # In a process of its own: the mesh may not import a service.
        result = subprocess.run(
            [sys.executable, "-m", "mesh.process.check", programs[name].module],
            input=json.dumps(values, default=str),
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            env={**os.environ, **environment()},
        )
        if result.returncode != 0:
            found = result.stdout.splitlines() or [f"cannot be checked: {result.stderr.strip()[-600:]}"]
            wrong += [f"{name}.{line}" for line in found]
    if wrong:
        raise OptionError("\n  ".join(["--set:", *wrong]) if len(wrong) > 1 else f"--set: {wrong[0]}")


def _value(text: str) -> object:
    """Return the TOML value, or the text itself: a word needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
