"""What each program of the platform is and needs, read from the `manifest.toml` beside its code.

Certificates, rights on the bus, Valkey users, database roles, the process table, the commands of `octopus` and the
README's picture are all made from these files, so a new service is named nowhere else. They are data because the mesh
may not import a service.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

REPOSITORY = Path(__file__).parents[1]

FILE = "manifest.toml"

_SUBJECT = re.compile(r"[a-z$*][A-Za-z0-9_$*-]*(\.([A-Za-z0-9_*-]+))*(\.>)?")


class ManifestError(Exception):
    """A manifest cannot be used. The text says which file, what is wrong, and what is allowed."""


def _subject(pattern: str) -> str:
    if not _SUBJECT.fullmatch(pattern):
        raise ValueError(f"{pattern!r} is no subject pattern; write e.g. event.rating.*.*")
    return pattern


def _own_subject(pattern: str) -> str:
    if not pattern[0].isalpha():
        raise ValueError(
            f"{pattern!r} may not be published: the first part of a subject is a word, e.g. event.rating.*.*"
        )
    return _subject(pattern)


Subject = Annotated[str, AfterValidator(_subject)]
OwnSubject = Annotated[str, AfterValidator(_own_subject)]
StreamName = Annotated[str, Field(pattern=r"^[A-Z]{1,32}$")]
Placeholder = Annotated[str | int | float | bool, Field(union_mode="left_to_right")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class BusUse(_Table):
    """What the program does on the bus. NATS refuses the rest."""

    # Subjects it publishes.
    publishes: tuple[OwnSubject, ...] = ()
    # Streams it reads, with the subjects its consumer takes; none where it only looks up single messages.
    reads: Mapping[StreamName, tuple[Subject, ...]] = Field(default_factory=dict)
    # Core subjects it subscribes to, which nobody keeps for it.
    subscribes: tuple[Subject, ...] = ()
    # Key-value buckets it writes, beyond its own registration.
    writes: tuple[Annotated[str, Field(pattern=r"^[a-z]{1,32}$")], ...] = ()


class OctopusCommand(_Table):
    """A sub-command of `octopus`."""

    name: str = Field(pattern=r"^[a-z]{2,16}$")
    # What `python -m` runs with the rest of the line.
    module: str
    # One line for `octopus --help`, in both languages.
    help: str


class Demo(_Table):
    """A program that fills a new platform with something to try; run once, after everything is ready."""

    # What it loads, for messages: "loaded <title>".
    title: str
    # What `python -m` runs, with `--config` and the settings file of the first copy.
    module: str
    # Further arguments, with the same placeholders as settings.
    arguments: tuple[str, ...] = ()
    # Demo programs run in this order.
    order: int = 0


class Manifest(_Table):
    """One program. Each copy of it is a process with a settings file of its own."""

    # Its name in the mesh, as in its certificate: the name of its folder.
    name: str = Field(pattern=r"^[a-z]{2,32}$")
    # What `python -m` runs: its folder. Not written in the file.
    module: str
    # Written beside its name in the README's picture.
    caption: str = ""
    # Why it is a process of its own: its row in the README's table.
    purpose: str = Field(min_length=1)
    # What it keeps, and where: as above.
    keeps: str = "nothing"
    # `postgres`: a database role of its name. `valkey`: a user of its name. `keyring`: a key file for what it seals.
    stores: tuple[Literal["postgres", "valkey", "keyring"], ...] = ()
    # What stands before others: all of one stage are started before the next one is.
    stage: int = Field(default=0, ge=0, le=9)
    # How many copies run, unless `--instances` says otherwise.
    copies: int = Field(default=1, ge=0, le=16)
    # Whether it may be run in more than one copy.
    many: bool = True
    # Whether it runs only where the demo data is loaded.
    demo_only: bool = False
    bus: BusUse = BusUse()
    # Settings beyond those every process has. `{root}` stands for the runtime folder, `{edge}` for the public origin.
    settings: Mapping[str, Placeholder] = Field(default_factory=dict)
    commands: tuple[OctopusCommand, ...] = ()
    demo: Demo | None = None

    @property
    def is_service(self) -> bool:
        """Return whether it is one of the services, which have a contract in `proto/octopus/<name>`."""
        return self.module.startswith("services.")

    @model_validator(mode="after")
    def _fits_its_folder(self) -> Manifest:
        if self.module.rpartition(".")[2] != self.name:
            raise ValueError(f"the name is {self.name!r}, but the folder is {self.module.replace('.', '/')}")
        for module in (*(each.module for each in self.commands), *([self.demo.module] if self.demo else ())):
            if not module.startswith(f"{self.module}."):
                raise ValueError(f"{module} is not below {self.module}: a program runs its own modules only")
        if not self.many and self.copies > 1:
            raise ValueError("`copies` is more than one, but `many` is false")
        return self


def read(path: Path, module: str) -> Manifest:
    """Return the manifest in a file. Raise ManifestError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    if "module" in values:
        raise ManifestError(f"{path}: module: leave it out; it follows from the folder")
    try:
        return Manifest.model_validate({**values, "module": module})
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, item['loc'])) or 'manifest'}: {_problem(item)}" for item in error.errors()]
        raise ManifestError("\n".join([f"{path} is no manifest that can be used:", *lines])) from error


def _problem(item: Mapping[str, object]) -> str:
    if item["type"] == "extra_forbidden":
        return "there is no such key; mesh/manifest.py explains those that there are"
    return str(item["msg"]).removeprefix("Value error, ")


def read_all(root: Path) -> Mapping[str, Manifest]:
    """Return the manifests below a repository's root, by name. Raise ManifestError, also when two claim the same."""
    found: dict[str, Manifest] = {}
    commands: dict[str, str] = {}
    for room in ("edge", "services"):
        for path in sorted((root / room).glob(f"*/{FILE}")):
            manifest = read(path, f"{room}.{path.parent.name}")
            if other := found.get(manifest.name):
                raise ManifestError(f"{path}: there is a program {manifest.name!r} already: {other.module}")
            found[manifest.name] = manifest
            for command in manifest.commands:
                if taken := commands.get(command.name):
                    raise ManifestError(f"{path}: the command {command.name!r} belongs to {taken} already")
                commands[command.name] = manifest.name
    return found


@cache
def manifests() -> Mapping[str, Manifest]:
    """Return the manifests of this repository, by name, read once. Raise ManifestError."""
    return read_all(REPOSITORY)
