"""What is seen of a call from outside: its span, its metrics, its line in the log."""

from __future__ import annotations

from typing import Final

import grpc
import structlog
from google.protobuf.message import Message

from mesh.rpc import masking
from mesh.rpc.call import Call, Interceptor, Proceed
from mesh.rpc.measure import Meter
from mesh.rpc.validation import Invalid
from mesh.telemetry import spans

_log = structlog.get_logger(__name__)

_meter: Final = Meter("server", "incoming")


class Trace(Interceptor):
    """Continues the caller's trace, and gives the call a trace id in any case."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Run the rest inside a server span."""
        with spans.serving(call.method.path, call.metadata) as span:
            call.trace_id = spans.trace_id()
            try:
                await proceed()
            finally:
                spans.outcome(span, call.code)
                if span.is_recording():
                    span.set_attribute("octopus.caller", call.caller)
                    if call.refused is not None:
                        span.set_attribute("octopus.reason", call.refused.reason_name)


class Metrics(Interceptor):
    """Counts calls, and measures them."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Count one call. Health checks count too."""
        method = call.method.path[1:]
        _meter.begun(method)
        try:
            await proceed()
        finally:
            _meter.ended(method, call.code, call.seconds)


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
    """Writes one line a call. The request of a call that failed is shown, masked."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Write the line when the call has ended, whatever its end."""
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
