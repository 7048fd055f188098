"""What was found, as tables for people and as JSON for comparing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from e2e.bench.order import Measured, Way
from e2e.bench.storm import Storm

CEILING: Way = "echo/stream"


@dataclass(frozen=True)
class At:
    """One measurement."""

    way: Way
    pairs: int
    # Messages under way at once in each pair.
    window: int
    got: Measured
    # Processor seconds used meanwhile, by process.
    cpu_s: dict[str, float]

    def cpu_us(self, *names: str) -> float:
        """Return processor microseconds for each message, of processes with these names or of all."""
        used = sum(s for name, s in self.cpu_s.items() if not names or name.partition("-")[0] in names)
        return 1e6 * used / max(1, self.got.delivered)


@dataclass(frozen=True)
class Idle:
    """What idle WebSocket connections cost: how much each process has grown, in MiB."""

    connections: int
    grown_mb: dict[str, float]


@dataclass(frozen=True)
class Rest:
    """The platform when nobody uses it: memory in all in MiB, and percent of one core by process."""

    seconds: float
    memory_mb: float
    cpu_percent: dict[str, float]


@dataclass
class Results:
    """Everything that was found."""

    at: list[At]
    rest: Rest | None = None
    idle: Idle | None = None
    storm: Storm | None = None
    machine: dict[str, object] = field(
        default_factory=lambda: {
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )

    def ceiling(self, at: At) -> float | None:
        """Return the echoes a second that a measurement is compared with: the mean of those with as many pairs."""
        found = [
            each.got.per_second
            for each in self.at
            if (each.way, each.pairs, each.window) == (CEILING, at.pairs, at.window)
        ]
        return sum(found) / len(found) if found else None


# Less is not shown in the table of idle connections.
_TOO_LITTLE_KIB = 0.05


def save(results: Results, path: Path) -> None:
    """Keep the results as JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(results), indent=2) + "\n", encoding="utf-8")


def show(results: Results) -> None:
    """Print the results."""
    console = Console(highlight=False, width=120)
    console.print(
        f"\n[bold]Octopus on {results.machine['cores']} cores[/], load before {results.machine['load_before']}"
    )
    if results.at:
        console.print(_speed(results), _profile(results))
    if results.idle is not None:
        console.print(_idle(results.idle))
    if results.storm is not None:
        found = results.storm
        console.print(
            f"\n{found.reconnects:,} reconnects without cursors in {found.seconds:.0f} s: those who talk have a p99 of "
            f"{found.during.p99_ms:.0f} ms instead of {found.quiet.p99_ms:.0f}, {found.ratio:.1f} times (aim: below 2)"
        )
    if results.rest is not None:
        busiest = sorted(results.rest.cpu_percent.items(), key=lambda item: -item[1])[:5]
        console.print(
            f"\nAt rest: {results.rest.memory_mb:.0f} MiB in all (aim: below 2,560), "
            f"{sum(results.rest.cpu_percent.values()):.1f} % of one core (aim: below 10): "
            + ", ".join(f"{name} {percent:.1f}" for name, percent in busiest)
        )


def _speed(results: Results) -> Table:
    table = Table(title="Delivered, each message durable before it is shown", title_justify="left", show_edge=False)
    for heading in (
        "pairs",
        "window",
        "way",
        "per second",
        "of the echo",
        "p50 ms",
        "p99 ms",
        "refused",
        "CPU µs each",
    ):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for at in results.at:
        ceiling = results.ceiling(at)
        table.add_row(
            str(at.pairs),
            str(at.window),
            at.way,
            f"{at.got.per_second:,.0f}",
            f"{at.got.per_second / ceiling:.2f}" if ceiling else "",
            f"{at.got.p50_ms:.1f}",
            f"{at.got.p99_ms:.1f}",
            str(at.got.refused),
            f"{at.cpu_us():.0f}",
        )
    return table


# In the order in which a message passes them.
_ON_THE_WAY = ("load", "edge", "bridge", "chat", "nats", "archive", "bot", "echo")


def _profile(results: Results) -> Table:
    table = Table(
        title="\nWhere the time of one message goes: processor µs by process", title_justify="left", show_edge=False
    )
    for heading in ("pairs", "way", *_ON_THE_WAY, "others"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for at in results.at:
        known = [at.cpu_us(name) for name in _ON_THE_WAY]
        table.add_row(str(at.pairs), at.way, *(f"{us:.0f}" for us in known), f"{at.cpu_us() - sum(known):.0f}")
    return table


def _idle(idle: Idle) -> Table:
    table = Table(
        title=f"\n{idle.connections} idle WebSocket connections, each with an open session",
        title_justify="left",
        show_edge=False,
    )
    for heading in ("process", "grown MiB", "KiB each"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for name, grown in (*sorted(idle.grown_mb.items()), ("all together", sum(idle.grown_mb.values()))):
        each = 1024 * grown / idle.connections
        # Some processes give back what they took before.
        if abs(each) >= _TOO_LITTLE_KIB:
            table.add_row(name, f"{grown:.1f}", f"{each:.1f}")
    return table
