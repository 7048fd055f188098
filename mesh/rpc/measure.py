"""Metrics of calls on both sides, and the span of outgoing ones."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Final

import grpc
from prometheus_client import Counter, Gauge, Histogram

from mesh.telemetry import spans

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meter:
    """The metrics of one side's calls: count by code, duration, and calls in flight."""

    def __init__(self, side: str, which: str) -> None:
        """`side` is part of the metrics' names, `which` of their descriptions."""
        name = f"octopus_rpc_{side}"
        calls = Counter(
            f"{name}_calls", f"{which} calls that ended, by gRPC status code.".capitalize(), ["method", "code"]
        )
        seconds = Histogram(f"{name}_seconds", f"How long {which} calls took.", ["method"], buckets=_BUCKETS)
        in_flight = Gauge(f"{name}_in_flight", f"{which} calls that run now.".capitalize(), ["method"])
        # Finding the child of a metric costs more than counting.
        self._calls = cache(calls.labels)
        self._seconds = cache(seconds.labels)
        self._in_flight = cache(in_flight.labels)

    def begun(self, method: str) -> None:
        """Count a call that has begun."""
        self._in_flight(method).inc()

    def ended(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Count a call that has ended."""
        self._in_flight(method).dec()
        self._seconds(method).observe(seconds)
        self._calls(method, code.name).inc()


_meter: Final = Meter("client", "outgoing")


class Outgoing:
    """One outgoing call from its start to `ended`, which may be called more than once."""

    __slots__ = ("_method", "_span", "_started", "headers")

    def __init__(self, method: str) -> None:
        self._method = method.removeprefix("/")
        self._started: float | None = time.monotonic()
        # The headers are the trace of the call, for its metadata.
        self._span, self.headers = spans.calling(method)
        _meter.begun(self._method)

    def ended(self, code: grpc.StatusCode) -> None:
        """Record that the call has ended with this code."""
        if self._started is None:
            return
        _meter.ended(self._method, code, time.monotonic() - self._started)
        self._started = None
        spans.outcome(self._span, code, server=False)
        self._span.end()

    def follow(self, call: Any) -> None:
        """Call `ended` when the gRPC call is done."""
        call.add_done_callback(self._done)

    def _done(self, call: Any) -> None:
        # The code is available now, but only from a coroutine, which no longer suspends.
        reading = call.code()
        try:
            reading.send(None)
        except StopIteration as end:
            self.ended(end.value)
        else:
            reading.close()
            self.ended(grpc.StatusCode.UNKNOWN)
