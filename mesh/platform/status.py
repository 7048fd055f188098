"""`octopus status`: what runs, for a person or a script."""

from __future__ import annotations

import contextlib
import json
import time
import tomllib
from typing import TypedDict

import psutil

from mesh.platform import lock, stream_fill
from mesh.platform.folder import Folder
from mesh.platform.state import ProcessState, State
from mesh.platform.stream_fill import StreamStatus


class ProcessStatus(TypedDict):
    """One process."""

    name: str
    instance: str
    pid: int | None
    # "waiting", "starting", "ready", "pausing" before a restart, "stopping" or "ended".
    phase: str
    # Its own and its children's memory, shared pages divided among those who share them. MiB.
    memory_mb: float
    restarts: int
    # Seconds since its last start.
    age_s: float
    # How it ended last, in words; empty when it never did.
    last_end: str
    # Where its Prometheus metrics are, null for components.
    metrics: str | None


class Status(TypedDict):
    """What `--json` prints."""

    # Whether a supervisor runs and all its processes are ready.
    ready: bool
    root: str
    # Process id of the supervisor, null when none runs.
    supervisor: int | None
    # By name: URLs, or host:port.
    endpoints: dict[str, str]
    # What outside clients must trust.
    edge_ca: str
    # JSON file of the demo log-ins, null before they were made.
    demo_logins: str | None
    # The supervisor's included.
    memory_mb: float
    processes: list[ProcessStatus]
    # Those of NATS; none while it does not answer.
    streams: list[StreamStatus]


def status(folder: Folder) -> Status:
    """Return the state of the platform in a folder; never fail: nothing running is a state too."""
    state = State.read(folder)
    alive = (
        state.supervisor is not None and state.supervisor == lock.holder(folder) and psutil.pid_exists(state.supervisor)
    )
    rows = [_row(folder, process, alive=alive) for process in state.processes.values()] if alive else []
    logins = folder.secrets / "demo-logins.json"
    own = _memory(state.supervisor, descendants=False) if alive and state.supervisor is not None else 0.0
    return Status(
        ready=alive and state.ready and all(row["phase"] == "ready" for row in rows),
        root=str(folder.root),
        supervisor=state.supervisor if alive else None,
        endpoints=_endpoints(state) if alive else {},
        edge_ca=str(folder.edge / "ca.pem"),
        demo_logins=str(logins) if logins.exists() else None,
        memory_mb=round(own + sum(row["memory_mb"] for row in rows), 1),
        processes=rows,
        streams=stream_fill.streams(state.ports["nats-monitor"]) if alive and "nats-monitor" in state.ports else [],
    )


def _endpoints(state: State) -> dict[str, str]:
    origin = f"localhost:{state.edge_port}"
    return {
        "web": f"https://{origin}/",
        "agent": f"https://{origin}/agent",
        "grpc": origin,
        "grpc_web": f"https://{origin}",
        "websocket": f"wss://{origin}/ws",
        "nats": f"tls://127.0.0.1:{state.ports.get('nats', 0)}",
        "postgres": f"127.0.0.1:{state.ports.get('postgres', 0)}",
        "valkey": f"127.0.0.1:{state.ports.get('valkey', 0)}",
        "control": f"127.0.0.1:{state.ports.get('control', 0)}",
        "edge_metrics": f"http://127.0.0.1:{state.ports.get('edge-metrics', 0)}/metrics",
    }


def _row(folder: Folder, process: ProcessState, *, alive: bool) -> ProcessStatus:
    runs = alive and process.pid is not None and psutil.pid_exists(process.pid)
    return ProcessStatus(
        name=process.name,
        instance=process.instance,
        pid=process.pid if runs else None,
        phase=process.phase if runs or process.pid is None else "ended",
        memory_mb=_memory(process.pid, descendants=True) if runs and process.pid is not None else 0.0,
        restarts=process.restarts,
        age_s=round(time.time() - process.started_at, 1) if runs and process.started_at else 0.0,
        last_end=process.last_end,
        metrics=_metrics(folder, process.instance),
    )


def _metrics(folder: Folder, instance: str) -> str | None:
    """Look into the settings file, for somebody may have set a port of their own."""
    try:
        port = tomllib.loads((folder.config / f"{instance}.toml").read_text(encoding="utf-8"))["metrics_port"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return None
    return f"http://127.0.0.1:{port}/metrics"


def _memory(pid: int, *, descendants: bool) -> float:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *(process.children(recursive=True) if descendants else ())]:
            with contextlib.suppress(psutil.Error):
                try:
                    total += each.memory_full_info().pss
                except psutil.AccessDenied:
                    total += each.memory_info().rss
    return round(total / 2**20, 1)


def as_json(found: Status) -> str:
    """Return the status for a script."""
    return json.dumps(found, indent=2, ensure_ascii=False)


def as_text(found: Status) -> str:
    """Return the status for a person."""
    if found["supervisor"] is None:
        return f"No platform runs in {found['root']}. Start it with `make up` (or `octopus up`)."
    head = "ready" if found["ready"] else "not ready"
    if not found["ready"] and all(row["phase"] == "ready" for row in found["processes"]):
        head = "not ready: all processes are, but the start goes on, for example with loading the demo shops"
    lines = [f"Octopus is {head}; supervisor {found['supervisor']}, {found['memory_mb']:.0f} MB in all", ""]
    lines.append(f"  {'process':<14} {'pid':>7} {'phase':<9} {'memory':>8} {'age':>8} {'restarts':>8}")
    for row in found["processes"]:
        pid = row["pid"] if row["pid"] is not None else "-"
        lines.append(
            f"  {row['instance']:<14} {pid:>7} {row['phase']:<9} {row['memory_mb']:>5.0f} MB {row['age_s']:>6.0f} s "
            f"{row['restarts']:>8}" + (f"  ended last: {row['last_end']}" if row["last_end"] else "")
        )
    lines.append("")
    lines += [f"  {'stream ' + row['name']:<14} {stream_fill.summary(row)}" for row in found["streams"]]
    lines += [f"  ! {warning}" for warning in stream_fill.warnings(found["streams"])]
    lines.append("")
    lines += [f"  {name:<14} {value}" for name, value in found["endpoints"].items()]
    lines.append(f"  {'edge CA':<14} {found['edge_ca']}")
    if found["demo_logins"] is not None:
        lines.append(f"  {'demo log-ins':<14} {found['demo_logins']}")
    return "\n".join(lines)
