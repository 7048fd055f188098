"""The process table: everything `octopus up` runs beside the components, in the order of starting."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Member:
    """A program of the platform. Each copy of it is a process with a settings file of its own."""

    # Its name in the mesh, as in its certificate.
    name: str
    # What `python -m` runs.
    module: str
    # What stands before others: all of one stage are started before the next one is.
    stage: int
    # How many copies, unless `--instances` says otherwise.
    copies: int = 1
    # Whether it may be run in more than one copy.
    many: bool = True
    # Holds the database, as the role of its name.
    postgres: bool = False
    # Holds live state, as the Valkey user of its name.
    valkey: bool = False
    # Seals what it stores, with a key file of its own.
    keyring: bool = False
    # Registers in the mesh once it serves; that is how it is known to be ready.
    registers: bool = True
    # Settings beyond those every process has. `{root}` stands for the runtime folder, `{edge}` for the public origin.
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Demo:
    """A program that fills a new platform with something to try; run once, after everything is ready."""

    # What it is called in messages.
    name: str
    # What `python -m` runs, with `--config` and the settings file of the member below.
    module: str
    # Whose settings it gets.
    member: str
    # Further arguments, with the same placeholders as settings.
    arguments: tuple[str, ...] = ()


FLEET: tuple[Member, ...] = (
    Member("control", "edge.control", stage=0, many=False),
    Member("user", "services.user", stage=0, postgres=True, valkey=True, keyring=True),
    Member("session", "services.session", stage=0, postgres=True, valkey=True),
    Member("archive", "services.archive", stage=0, postgres=True, keyring=True),
    Member("knowledge", "services.knowledge", stage=0, postgres=True),
    Member("chat", "services.chat", stage=0, valkey=True),
    Member("bot", "services.bot", stage=0),
    Member("bridge", "edge.bridge", stage=1),
    Member("pages", "edge.pages", stage=1, many=False, settings={"shop_secrets": "{root}/secrets/demo-logins.json"}),
)

DEMO: tuple[Demo, ...] = (
    Demo("shops and people", "services.user.demo", "user", ("--logins", "{root}/secrets/demo-logins.json")),
    Demo("answers of the shops", "services.knowledge.demo", "knowledge"),
)


class FleetError(ValueError):
    """A request for copies or settings that cannot be met."""


def copies(request: str) -> dict[str, int]:
    """Reads `chat=2,bridge=2,chat@v2=1` and returns how many copies of each member to run. Raises FleetError.

    Copies of another version than v1 stand under `name@version`: a canary, which `octopus mesh weight` gives traffic.
    """
    wanted = {member.name: member.copies for member in FLEET}
    single = {member.name for member in FLEET if not member.many}
    for part in filter(None, (item.strip() for item in request.split(","))):
        key, _, number = part.partition("=")
        name, at, version = key.partition("@")
        if name not in wanted:
            raise FleetError(f"--instances: there is no {name!r}; there are {', '.join(sorted(wanted))}")
        if not number.isdecimal() or not 0 <= int(number) <= 16:
            raise FleetError(f"--instances: {part!r} should be {name}=N with N from 0 to 16")
        if at and not re.fullmatch(r"v[0-9]{1,6}", version):
            raise FleetError(f"--instances: {version!r} is no version; write {name}@v2={number}")
        if name in single and (at or int(number) > 1):
            raise FleetError(f"--instances: {name} runs once; leave it out")
        wanted[key] = int(number)
    return wanted


def settings(requests: Iterable[str]) -> dict[str, dict[str, object]]:
    """Reads `chat.rate_per_second=100` and returns settings by member; the member itself checks them at its start.

    Raises FleetError.
    """
    members = {member.name for member in FLEET}
    wanted: dict[str, dict[str, object]] = {}
    for request in requests:
        where, assigned, value = request.partition("=")
        member, _, key = where.partition(".")
        if not key.isidentifier() or not assigned:
            raise FleetError(f"--set: {request!r} should be MEMBER.SETTING=VALUE, as chat.rate_per_second=100")
        if member not in members:
            raise FleetError(f"--set: there is no {member!r}; there are {', '.join(sorted(members))}")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A word without quotes.
            parsed = value
        wanted.setdefault(member, {})[key] = parsed
    return wanted
