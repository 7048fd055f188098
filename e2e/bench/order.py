"""What one measurement is asked, and what it answers: JSON between the benchmark and its load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e2e.clients.edge import Edge

Way = Literal["echo/stream", "echo/unary", "grpc", "websocket", "websocket-json"]


@dataclass(frozen=True)
class Pair:
    """A conversation: who speaks, who listens, and where. An agent may listen in several."""

    speaker_id: int
    speaker_token: str
    listener_id: int
    listener_token: str
    session_id: int


@dataclass(frozen=True)
class Order:
    """One measurement."""

    host: str
    port: int
    ca: str
    way: Way
    # For an echo, only their number counts.
    pairs: tuple[Pair, ...]
    # Messages under way at once in each pair.
    window: int
    # Seconds that are not counted, and seconds that are.
    warm_up_s: float
    seconds: float

    @property
    def edge(self) -> Edge:
        """Return the way in."""
        return Edge(self.host, self.port, Path(self.ca))

    @staticmethod
    def parse(text: str) -> Order:
        """Read an order as `dataclasses.asdict` and JSON wrote it."""
        values = json.loads(text)
        values["pairs"] = tuple(Pair(**pair) for pair in values["pairs"])
        return Order(**values)


@dataclass(frozen=True)
class Measured:
    """How it went. For an echo, "delivered" is what came back."""

    seconds: float
    delivered: int
    refused: int
    p50_ms: float
    p99_ms: float
    # Processor seconds of the load itself.
    load_cpu_s: float

    @staticmethod
    def of(seconds: float, load_cpu_s: float, latencies: list[float], refused: int) -> Measured:
        """Sum up what was counted."""
        ordered = sorted(latencies) or [0.0]
        return Measured(
            seconds=seconds,
            delivered=len(latencies),
            refused=refused,
            p50_ms=1000 * ordered[len(ordered) // 2],
            p99_ms=1000 * ordered[len(ordered) * 99 // 100],
            load_cpu_s=load_cpu_s,
        )

    @property
    def per_second(self) -> float:
        """Deliveries a second."""
        return self.delivered / self.seconds
