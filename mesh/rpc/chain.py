"""The outermost interceptor of a server: decode and validate, then call grpc-interceptor's interceptors.

They are `grpc_interceptor.server.AsyncServerInterceptor`s, each around a whole call, never around one message:

```
async def intercept(self, method, request_or_iterator, context, method_name):
    call = current_call.get()
    ...
    return await method(request_or_iterator, context)
```

`Chain` alone is written against gRPC itself, because it must see undecoded messages: gRPC answers UNKNOWN to bytes that
are not a message, and drops a call whose client sends none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_interceptor.server import AsyncServerInterceptor
from grpc_status import rpc_status

from mesh import deadline
from mesh.errors import Refused, to_status
from mesh.rpc import validation
from mesh.rpc.call import Behaviour, Call, Context, current_call
from mesh.rpc.policy import Method


class Chain(grpc.aio.ServerInterceptor):
    """Decodes and validates requests, and passes each call through the interceptors, outermost first, to its handler.

    Interceptors see every method as one request, or an iterator of requests, and one awaited answer: answers of a
    stream are written to the context by the handler, so interceptors cost nothing for each message.
    """

    def __init__(self, interceptors: Sequence[AsyncServerInterceptor], policy: Callable[[str], Method | None]) -> None:
        self._interceptors = tuple(interceptors)
        self._policy = policy
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a method, wrapped at the method's first call; None is answered by UNIMPLEMENTED."""
        path = handler_call_details.method
        if path not in self._wrapped:
            handler = await continuation(handler_call_details)
            method = self._policy(path)
            if handler is None or method is None:
                # Not cached: clients can invent any number of paths.
                return None
            intercepted: Any = grpc.unary_unary_rpc_method_handler(_one_answer(handler))
            for interceptor in reversed(self._interceptors):
                following = _returning(intercepted)
                intercepted = await interceptor.intercept_service(following, handler_call_details)  # type: ignore[no-untyped-call]
            self._wrapped[path] = _decoding(method, handler, intercepted.unary_unary)
        return self._wrapped[path]


def _returning(handler: Any) -> Callable[[Any], Awaitable[Any]]:
    async def continuation(_: grpc.HandlerCallDetails) -> Any:
        return handler

    return continuation


def _one_answer(handler: Any) -> Behaviour:
    """Return a handler of any shape as one that is awaited for one answer, None after a stream was written."""
    behaviour = (
        handler.unary_unary or handler.unary_stream or _valid_only(handler.stream_unary or handler.stream_stream)
    )
    if not handler.response_streaming:
        return behaviour

    async def write(request: Any, context: Context) -> None:
        answers = behaviour(request, context)
        if not hasattr(answers, "__aiter__"):
            # The handler's other style: a coroutine that writes to the context itself.
            await answers
            return
        # Closed here, so that the handler's `finally` does not wait for the garbage collector.
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    return write


def _valid_only(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    if validation.wants_invalid(behaviour):
        return behaviour
    return lambda requests, context: behaviour(validation.valid_only(requests), context)


def _decoding(method: Method, handler: Any, intercepted: Behaviour) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler that gRPC calls. Every method takes a stream there, so that a missing request is answered."""
    decode = handler.request_deserializer
    read = decode if method.open or decode is None else validation.reader(decode, checked=method.checked)

    async def behaviour(requests: AsyncIterator[Any], context: Context) -> Any:
        request = requests if handler.request_streaming else await _only(requests, context)
        call = Call(method, not handler.response_streaming, _metadata(context))
        current_call.set(call)
        answer = await intercepted(request, context)
        if call.refused is not None:
            await _abort(context, call.refused)
        return answer

    write = _or_bytes(handler.response_serializer)
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(behaviour, read, write)
    return grpc.stream_unary_rpc_method_handler(behaviour, read, write)


def _metadata(context: Context) -> dict[str, str]:
    """Return the call's metadata as text: the first value of each key, without `-bin` keys."""
    metadata: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            metadata.setdefault(key, value)
    return metadata


async def _only(requests: AsyncIterator[Any], context: Context) -> Any:
    """Return the one request of a call, or `Invalid` when the client's half ends, or is late, without a whole one."""
    try:
        async with asyncio.timeout(deadline.DEFAULT if context.time_remaining() is None else None):
            return await anext(requests)
    except (StopAsyncIteration, TimeoutError):
        return validation.Invalid(())


async def _abort(context: Context, refused: Refused) -> None:
    status = rpc_status.to_status(to_status(refused))
    await context.abort(status.code, status.details, tuple(status.trailing_metadata))


def _or_bytes(encode: Callable[[Message], bytes] | None) -> Callable[[Message | bytes], bytes] | None:
    """Return a serialiser that passes bytes on unchanged: a message to many clients is encoded once."""
    if encode is None:
        return None
    return lambda message: message if isinstance(message, bytes) else encode(message)
