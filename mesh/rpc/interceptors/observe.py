"""What is seen of a call from outside: its span, its metrics, its line in the log."""

from __future__ import annotations

from typing import Final

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from mesh.rpc import masking
from mesh.rpc.call import Call, Interceptor, Proceed
from mesh.rpc.measure import BUCKETS
from mesh.rpc.validation import Invalid

_log = structlog.get_logger(__name__)

_propagator: Final = TraceContextTextMapPropagator()
_calls = Counter("octopus_rpc_server_calls", "Calls that ended, by gRPC status code.", ["method", "code"])
_seconds = Histogram("octopus_rpc_server_seconds", "How long calls took.", ["method"], buckets=BUCKETS)
_in_flight = Gauge("octopus_rpc_server_in_flight", "Calls that run now.", ["method"])


class Trace(Interceptor):
    """Continues the caller's trace, and gives the call a trace id in any case."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("octopus.rpc")

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Runs the rest inside a server span."""
        with self._tracer.start_as_current_span(
            call.method.path[1:],
            context=_propagator.extract(call.metadata),
            kind=SpanKind.SERVER,
            # Exceptions hold what people wrote; the code and the reason say enough.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            identity = span.get_span_context()
            if identity.is_valid:
                call.trace_id = trace.format_trace_id(identity.trace_id)
            try:
                await proceed()
            finally:
                if span.is_recording():
                    service, _, method = call.method.path[1:].rpartition("/")
                    span.set_attributes(
                        {
                            "rpc.system": "grpc",
                            "rpc.service": service,
                            "rpc.method": method,
                            "rpc.grpc.status_code": call.code.value[0],
                            "octopus.caller": call.caller,
                        }
                    )
                    if call.refused is not None:
                        span.set_attribute("octopus.reason", call.refused.reason_name)
                    if call.code in _OUR_FAULT:
                        span.set_status(Status(StatusCode.ERROR))


class Metrics(Interceptor):
    """Counts calls, and measures them."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Counts one call. Health checks count too."""
        method = call.method.path[1:]
        gauge = _in_flight.labels(method)
        gauge.inc()
        try:
            await proceed()
        finally:
            gauge.dec()
            _seconds.labels(method).observe(call.seconds)
            _calls.labels(method, call.code.name).inc()


# Ends that somebody of ours must look at; all others are the caller's business.
_OUR_FAULT: Final = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
    }
)


class AccessLog(Interceptor):
    """Writes one line a call. Its request is shown, masked, when the call failed or the log is at debug."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Writes the line when the call has ended, whatever its end."""
        try:
            await proceed()
        finally:
            self._write(call)

    def _write(self, call: Call) -> None:
        fields: dict[str, object] = {
            "method": call.method.path[1:],
            "code": call.code.name,
            "ms": round(call.seconds * 1000, 1),
            "caller": call.caller,
        }
        if call.principal is not None:
            fields["tenant"] = call.principal.tenant_id
            fields["user_id"] = call.principal.user_id
        if call.refused is not None:
            fields["reason"] = call.refused.reason_name
        if call.code is not grpc.StatusCode.OK and (shown := _shown(call.request)):
            fields["request"] = shown
        if call.method.open:
            # Health checks come every few seconds from everybody.
            _log.debug("rpc", **fields)
        elif call.code in _OUR_FAULT:
            _log.warning("rpc", **fields)
        else:
            _log.info("rpc", **fields)


def _shown(request: Message | Invalid | None) -> str:
    message = request.message if isinstance(request, Invalid) else request
    return "" if message is None else masking.mask(message)
