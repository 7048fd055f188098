"""Interceptors that observe a call: its span, its metrics, its line in the log."""

from __future__ import annotations

from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import Message
from grpc_interceptor.server import AsyncServerInterceptor

from mesh.rpc import masking
from mesh.rpc.call import Behaviour, Call, Context, current_call
from mesh.rpc.measure import Meter
from mesh.rpc.validation import Invalid
from mesh.telemetry import spans

_log = structlog.get_logger(__name__)

_meter: Final = Meter("server", "incoming")


class Trace(AsyncServerInterceptor):
    """Continue the caller's trace, or begin one: every call has a trace id."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Run the rest inside a server span."""
        call = current_call.get()
        with spans.serving(call.method.path, call.metadata) as span:
            call.trace_id = spans.trace_id()
            try:
                return await method(request_or_iterator, context)
            finally:
                spans.outcome(span, call.code)
                if span.is_recording():
                    span.set_attribute("octopus.caller", call.caller)
                    if call.refused is not None:
                        span.set_attribute("octopus.reason", call.refused.reason_name)


class Metrics(AsyncServerInterceptor):
    """Count and time calls, health checks included."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Count one call."""
        call = current_call.get()
        name = call.method.path[1:]
        _meter.begun(name)
        try:
            return await method(request_or_iterator, context)
        finally:
            _meter.ended(name, call.code, call.seconds)


# Failures that an operator should look at; all others are the client's.
_OUR_FAULT: Final = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
    }
)


class AccessLog(AsyncServerInterceptor):
    """Write one line for each call; of a call that failed, also its request, masked."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Write the line when the call has ended, however it ended."""
        try:
            return await method(request_or_iterator, context)
        finally:
            _write(current_call.get(), request_or_iterator)


def _write(call: Call, request: Any) -> None:
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
    if call.code is not grpc.StatusCode.OK and (shown := _shown(request)):
        fields["request"] = shown
    if call.method.open:
        # Health checks come every few seconds from everybody.
        _log.debug("rpc", **fields)
    elif call.code in _OUR_FAULT:
        _log.warning("rpc", **fields)
    else:
        _log.info("rpc", **fields)


def _shown(request: Any) -> str:
    message = request.message if isinstance(request, Invalid) else request
    return masking.mask(message) if isinstance(message, Message) else ""
