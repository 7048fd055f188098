"""What is seen of an outgoing call: its span and its metrics."""

from __future__ import annotations

import time
from typing import Any, Final

import grpc
from prometheus_client import Counter, Gauge, Histogram

from mesh.telemetry import spans

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_calls: Final = Counter(
    "octopus_rpc_client_calls", "Outgoing calls that ended, by gRPC status code.", ["method", "code"]
)
_seconds: Final = Histogram("octopus_rpc_client_seconds", "How long outgoing calls took.", ["method"], buckets=BUCKETS)
_in_flight: Final = Gauge("octopus_rpc_client_in_flight", "Outgoing calls that run now.", ["method"])


class Outgoing:
    """One outgoing call from its start to `ended`, which may be said more than once."""

    __slots__ = ("_method", "_span", "_started", "headers")

    def __init__(self, method: str) -> None:
        self._method = method.removeprefix("/")
        self._started: float | None = time.monotonic()
        # The headers are the trace of the call, for its metadata.
        self._span, self.headers = spans.calling(method)
        _in_flight.labels(self._method).inc()

    def ended(self, code: grpc.StatusCode) -> None:
        """The call has ended with this code."""
        if self._started is None:
            return
        _seconds.labels(self._method).observe(time.monotonic() - self._started)
        _calls.labels(self._method, code.name).inc()
        _in_flight.labels(self._method).dec()
        self._started = None
        spans.outcome(self._span, code, server=False)
        self._span.end()

    def follow(self, call: Any) -> None:
        """Notes the end of a gRPC call by itself, whoever reads it."""
        call.add_done_callback(self._done)

    def _done(self, call: Any) -> None:
        # The code is known by now, but gRPC hands it out through a coroutine only; that one does not wait any more.
        reading = call.code()
        try:
            reading.send(None)
        except StopIteration as end:
            self.ended(end.value)
        else:
            reading.close()
            self.ended(grpc.StatusCode.UNKNOWN)
