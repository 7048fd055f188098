"""What keeps a call in bounds: its time, its contract, and what its caller learns when it fails."""

from __future__ import annotations

import asyncio
import time

import grpc
import structlog

from mesh import deadline
from mesh.errors import refused_from
from mesh.rpc.call import Call, Interceptor, Proceed
from mesh.rpc.validation import Invalid

_log = structlog.get_logger(__name__)


class Errors(Interceptor):
    """Decides what the caller is told about a failure. Only what we do not understand is logged with its traceback."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Leave the outcome in the call; the chain's end sends it."""
        try:
            await proceed()
            # A handler may set a code and return, in gRPC's own way.
            call.code = _code_of(call.context) or grpc.StatusCode.OK
        except grpc.aio.AbortError:
            call.code = _code_of(call.context) or grpc.StatusCode.UNKNOWN
            raise
        except asyncio.CancelledError:
            # The client went away, the server is being forced to stop, or the client's deadline passed.
            left = call.context.time_remaining()
            late = left is not None and left <= 0
            call.code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 -- the one place that decides what a caller learns of any failure
            call.refused = refused_from(error, trace_id=call.trace_id)
            call.code = call.refused.code
            if call.code is grpc.StatusCode.INTERNAL:
                _log.error("rpc failed", method=call.method.path[1:], trace_id=call.trace_id, exc_info=error)


class Deadline(Interceptor):
    """Give a call that has one answer an end, and tell outgoing calls how much time is left."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """End the call with `TimeoutError` a little before its caller gives up, so that the caller learns why.

        A call with one answer whose client sent no deadline gets the default one. A stream without a deadline lives as
        long as its contract says.
        """
        given = call.context.time_remaining()
        if given is None:
            if not call.brief:
                await proceed()
                return
            given = deadline.DEFAULT
        seconds = deadline.budget(given)
        before = deadline.ends_at.set(time.monotonic() + seconds)
        try:
            async with asyncio.timeout(seconds):
                await proceed()
        finally:
            deadline.ends_at.reset(before)


class Validation(Interceptor):
    """Refuses the one request of a unary call when it breaks its contract; client streams are checked while read."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Raise INVALID_ARGUMENT with the violations, after the roles: strangers learn nothing about contracts."""
        if isinstance(call.request, Invalid):
            raise call.request.refused()
        await proceed()


def _code_of(context: grpc.aio.ServicerContext[object, object]) -> grpc.StatusCode | None:
    """Return the code that was set on the context; gRPC keeps a number, or a member of the enum, or nothing."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code) if code else None


_CODES = {code.value[0]: code for code in grpc.StatusCode}
