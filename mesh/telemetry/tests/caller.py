"""Calls itself over gRPC inside a span and prints, as JSON, the trace ids that both ends saw."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from opentelemetry import trace

from mesh.process.config import ServiceConfig
from mesh.telemetry.spans import calling, outcome, serving, trace_id
from mesh.telemetry.tracing import tracing

if TYPE_CHECKING:
    Dial: TypeAlias = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def main(settings: dict[str, Any]) -> None:
    config = ServiceConfig(name="chat", instance="chat-1", identity=Path(), nats_url="tls://unused", **settings)
    served: list[str] = []

    def handler(method: str, code: grpc.StatusCode) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def behaviour(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
            with serving(method, metadata) as span:
                served.append(trace_id())
                outcome(span, code)
            if code is not grpc.StatusCode.OK:
                await context.abort(code)
            return b""

        return grpc.unary_unary_rpc_method_handler(behaviour)

    server = grpc.aio.server()
    handlers = {
        "Say": handler("/test.Echo/Say", grpc.StatusCode.OK),
        "Refuse": handler("/test.Echo/Refuse", grpc.StatusCode.PERMISSION_DENIED),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with tracing(config), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with trace.get_tracer("test").start_as_current_span("work"):
            seen = trace_id()
            await call(channel, "/test.Echo/Say", grpc.StatusCode.OK)
            await call(channel, "/test.Echo/Refuse", grpc.StatusCode.PERMISSION_DENIED)
    await server.stop(None)
    sys.stdout.write(json.dumps({"trace_id": seen, "served": served}))


async def call(channel: grpc.aio.Channel, method: str, expected: grpc.StatusCode) -> None:
    span, headers = calling(method)
    dial: Dial = channel.unary_unary(method)
    running = dial(b"", metadata=list(headers.items()))
    code = await running.code()
    outcome(span, code, server=False)
    span.end()
    if code is not expected:
        raise RuntimeError(f"{method} ended with {code}")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
