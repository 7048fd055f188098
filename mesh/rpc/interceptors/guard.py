"""Interceptors that bound a call: its deadline, its contract, its end at a stop, and the failure its client is sent."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import structlog
from grpc_interceptor.server import AsyncServerInterceptor
from octopus.errors.v1 import errors_pb2

from mesh import deadline
from mesh.errors import Refused, refused_from
from mesh.rpc.call import Behaviour, Context, current_call
from mesh.rpc.validation import Invalid

_log = structlog.get_logger(__name__)


class Errors(AsyncServerInterceptor):
    """Map exceptions to the failure that the client is sent. Only unexpected ones are logged, with their traceback."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Set the call's `code` and `refused`; the chain sends them after the outer interceptors have ended."""
        call = current_call.get()
        try:
            answer = await method(request_or_iterator, context)
        except grpc.aio.AbortError:
            call.code = _code_of(context) or grpc.StatusCode.UNKNOWN
            raise
        except asyncio.CancelledError:
            # The client went away, the server is being forced to stop, or the client's deadline passed.
            left = context.time_remaining()
            late = left is not None and left <= 0
            call.code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 -- the one place that decides what a client learns of any failure
            call.refused = refused_from(error, trace_id=call.trace_id)
            call.code = call.refused.code
            if call.code is grpc.StatusCode.INTERNAL:
                _log.error("rpc failed", method=call.method.path[1:], trace_id=call.trace_id, exc_info=error)
            return None
        # A handler may set a code and return, in gRPC's own way.
        call.code = _code_of(context) or grpc.StatusCode.OK
        return answer


class Deadline(AsyncServerInterceptor):
    """Give a unary call a deadline, and make the remaining time known to outgoing calls."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Raise `TimeoutError` a little before the client's deadline, so that the client learns why.

        A call with one answer whose client sent no deadline gets the default one. A stream without a deadline lives as
        long as its contract says.
        """
        given = context.time_remaining()
        if given is None:
            if not current_call.get().unary:
                return await method(request_or_iterator, context)
            given = deadline.DEFAULT
        seconds = deadline.budget(given)
        deadline.ends_at.set(time.monotonic() + seconds)
        async with asyncio.timeout(seconds):
            return await method(request_or_iterator, context)


class Validation(AsyncServerInterceptor):
    """Refuse a single request that breaks its contract; client streams are checked while they are read."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Raise INVALID_ARGUMENT with the violations, after the roles: strangers learn nothing about contracts."""
        if isinstance(request_or_iterator, Invalid):
            raise request_or_iterator.refused()
        return await method(request_or_iterator, context)


class Endless(AsyncServerInterceptor):
    """End gRPC's own streams at a stop, such as health watches; those of our contracts end themselves."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._ending = False

    def end(self) -> None:
        """End the running streams with UNAVAILABLE."""
        self._ending = True
        for task in self._running:
            task.cancel()

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Raise UNAVAILABLE when the stream is ended by `end`."""
        call, task = current_call.get(), asyncio.current_task()
        if call.unary or not call.method.open or task is None:
            return await method(request_or_iterator, context)
        self._running.add(task)
        try:
            return await method(request_or_iterator, context)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "the server is stopping; connect again") from None
        finally:
            self._running.discard(task)


def _code_of(context: Context) -> grpc.StatusCode | None:
    """Return the code that was set on the context; gRPC keeps a number, or a member of the enum, or nothing."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code) if code else None


_CODES = {code.value[0]: code for code in grpc.StatusCode}
