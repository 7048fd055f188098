"""What the supervisor runs, in `.octopus/state.json`: kept ports, processes, readiness. Others read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mesh.atomic_file import write
from mesh.platform import ports
from mesh.platform.folder import Folder

Phase = Literal["waiting", "starting", "ready", "pausing", "stopping", "ended"]


@dataclass
class ProcessState:
    """One process in the table."""

    # Unique, e.g. "chat-2"; also the name of its log.
    instance: str
    # What it is a copy of, e.g. "chat".
    name: str
    # What it is doing.
    phase: Phase = "waiting"
    # Process id, None when it does not run.
    pid: int | None = None
    # How often it was started again after it had ended by itself.
    restarts: int = 0
    # When it was started last, seconds since 1970.
    started_at: float | None = None
    # How it ended last, in words; empty when it never did.
    last_end: str = ""


@dataclass
class State:
    """Everything in the file."""

    path: Path
    # Process id of the supervisor, None when none runs.
    supervisor: int | None = None
    # Whether all processes are ready.
    ready: bool = False
    # Port of the public endpoint.
    edge_port: int = 0
    # Loopback ports by purpose; kept from one start to the next.
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, ProcessState] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Folder) -> State:
        """Return what the file says; an empty state when there is none or it is damaged: it can all be made anew."""
        try:
            values: dict[str, Any] = json.loads(folder.state.read_text())
            processes = {row["instance"]: ProcessState(**row) for row in values.pop("processes")}
            return cls(path=folder.state, processes=processes, **values)
        except (OSError, ValueError, TypeError, KeyError):
            return cls(path=folder.state)

    def save(self) -> None:
        """Write the file in one step."""
        values = asdict(self)
        del values["path"]
        values["processes"] = [asdict(process) for process in self.processes.values()]
        write(self.path, json.dumps(values, indent=2) + "\n")

    def port(self, purpose: str) -> int:
        """Return the loopback port of a purpose: the kept one while it is free, else a new one, which is kept."""
        kept = self.ports.get(purpose)
        if kept is not None and ports.is_free(kept):
            return kept
        chosen = ports.choose(self.ports.values())
        self.ports[purpose] = chosen
        return chosen
