"""gRPC calls in traces: a span at the server, a span at the client, and the `traceparent` metadata between them.

A call that is not recorded costs its trace id only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator: Final = TraceContextTextMapPropagator()
_tracer: Final = trace.get_tracer("octopus.rpc")
# The loop itself keeps tasks by weak references only.
_endings: Final[set[asyncio.Task[None]]] = set()

# The statuses that are a server's fault; the others tell a caller about its own request.
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
    """Around one incoming call: a span that continues the caller's trace, current inside the block.

    `method` is the full path, "/octopus.chat.v1.ChatService/Send". `outcome` tells the span how the call ended.
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


def outcome(span: Span, code: grpc.StatusCode, *, server: bool = True) -> None:
    """Writes a call's status into its span. A client calls everything but OK an error, a server only its own faults."""
    if not span.is_recording():
        return
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in _FAULTS or not (server or code is grpc.StatusCode.OK):
        span.set_status(Status(StatusCode.ERROR, code.name))


def trace_id() -> str:
    """The current trace as 32 hexadecimal digits, or nothing outside of any."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """Interceptors that carry the current trace to the called service, one for each shape of call."""
    return [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()]


def traceparent() -> tuple[tuple[str, str], ...]:
    """The current trace as call metadata, for calls made without the interceptors; empty outside of any."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())


async def _call(
    continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any], details: grpc.aio.ClientCallDetails, request: Any
) -> Any:
    method = details.method.decode() if isinstance(details.method, bytes) else details.method
    if not trace.get_current_span().is_recording():
        return await continuation(_traced(details), request)
    span = _tracer.start_span(method.removeprefix("/"), kind=SpanKind.CLIENT, attributes=_attributes(method))
    with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        traced = _traced(details)
    try:
        call = await continuation(traced, request)
    except BaseException:
        span.end()
        raise
    # A stream lives on after this; its status is known without waiting once it is done.
    call.add_done_callback(lambda done: _ending(_end(span, done)))
    return call


def _traced(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    added = traceparent()
    if not added:
        return details
    metadata = grpc.aio.Metadata(*(details.metadata or ()), *added)
    # A named tuple, which its type does not say.
    return cast("grpc.aio.ClientCallDetails", cast("Any", details)._replace(metadata=metadata))


async def _end(span: Span, call: grpc.aio.Call) -> None:
    outcome(span, await call.code(), server=False)
    span.end()


def _ending(end: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(end, name="end of span")
    _endings.add(task)
    task.add_done_callback(_endings.discard)


def _attributes(method: str) -> dict[str, str]:
    service, _, name = method.removeprefix("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await _call(continuation, client_call_details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await _call(continuation, client_call_details, request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await _call(continuation, client_call_details, request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await _call(continuation, client_call_details, request_iterator)
