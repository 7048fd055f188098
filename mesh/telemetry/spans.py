"""gRPC calls in traces: a span at the server, a span at the client, and the `traceparent` metadata between them.

A call that is not recorded costs its trace id only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import grpc
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator: Final = TraceContextTextMapPropagator()
_tracer: Final = trace.get_tracer("octopus.rpc")

# The statuses that are a server's fault; the others are caused by the request.
_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


@contextmanager
def serving(method: str, metadata: Mapping[str, str]) -> Iterator[Span]:
    """Run the block, an incoming call, in a span that continues the caller's trace.

    `method` is the full path, "/octopus.chat.v1.ChatService/Send". `outcome` records how the call ended.
    """
    with _tracer.start_as_current_span(
        method.removeprefix("/"),
        context=_propagator.extract(metadata, context=Context()),
        kind=SpanKind.SERVER,
        attributes=_attributes(method),
        # An error's text may quote what a person wrote.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def enter(method: str, metadata: Mapping[str, str]) -> None:
    """Make the current context part of the caller's trace, or of a new one, until the context is dropped.

    For calls that are too long for a span: spans within them are children of the caller's span.
    """
    span = _tracer.start_span(
        method.removeprefix("/"),
        context=_propagator.extract(metadata, context=Context()),
        kind=SpanKind.SERVER,
        attributes=_attributes(method),
    )
    # Ended at once: it records that the conversation was opened.
    span.end()
    attach(trace.set_span_in_context(span))


def outcome(span: Span, code: grpc.StatusCode, *, server: bool = True) -> None:
    """Write a call's status into its span. A client calls everything but OK an error, a server only its own faults."""
    if not span.is_recording():
        return
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in _FAULTS or not (server or code is grpc.StatusCode.OK):
        span.set_status(Status(StatusCode.ERROR, code.name))


def trace_id() -> str:
    """Return the current trace as 32 hexadecimal digits, or nothing outside of any."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def calling(method: str) -> tuple[Span, dict[str, str]]:
    """Begin the span of an outgoing call, below the current one, and return it with the metadata that carries it.

    When the call is done, record its `outcome` and end the span. Where nothing is recorded, the span is an empty one
    and the metadata carry the current trace alone; outside of any trace, nothing.
    """
    headers: dict[str, str] = {}
    if not trace.get_current_span().is_recording():
        _propagator.inject(headers)
        return trace.INVALID_SPAN, headers
    span = _tracer.start_span(method.removeprefix("/"), kind=SpanKind.CLIENT, attributes=_attributes(method))
    _propagator.inject(headers, context=trace.set_span_in_context(span))
    return span, headers


def _attributes(method: str) -> dict[str, str]:
    service, _, name = method.removeprefix("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
