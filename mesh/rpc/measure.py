"""What is seen of an outgoing call: its span and its metrics."""

from __future__ import annotations

import time
from typing import Any, Final

import grpc
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_calls: Final = Counter(
    "octopus_rpc_client_calls", "Outgoing calls that ended, by gRPC status code.", ["method", "code"]
)
_seconds: Final = Histogram("octopus_rpc_client_seconds", "How long outgoing calls took.", ["method"], buckets=BUCKETS)
_in_flight: Final = Gauge("octopus_rpc_client_in_flight", "Outgoing calls that run now.", ["method"])
_tracer: Final = trace.get_tracer("octopus.rpc")
_propagator: Final = TraceContextTextMapPropagator()


class Outgoing:
    """One outgoing call from its start to `ended`, which may be said more than once."""

    __slots__ = ("_method", "_span", "_started", "headers")

    def __init__(self, method: str) -> None:
        self._method = method.removeprefix("/")
        self._started: float | None = time.monotonic()
        self._span: trace.Span | None = None
        # The trace of the call, for its metadata.
        self.headers: dict[str, str] = {}
        _in_flight.labels(self._method).inc()
        if trace.get_current_span().is_recording():
            self._span = _tracer.start_span(self._method, kind=SpanKind.CLIENT)
            _propagator.inject(self.headers, context=trace.set_span_in_context(self._span))
        else:
            _propagator.inject(self.headers)

    def ended(self, code: grpc.StatusCode) -> None:
        """The call has ended with this code."""
        if self._started is None:
            return
        _seconds.labels(self._method).observe(time.monotonic() - self._started)
        _calls.labels(self._method, code.name).inc()
        _in_flight.labels(self._method).dec()
        self._started = None
        if self._span is not None:
            self._span.set_attributes({"rpc.system": "grpc", "rpc.grpc.status_code": code.value[0]})
            if code is not grpc.StatusCode.OK:
                self._span.set_status(Status(StatusCode.ERROR))
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
