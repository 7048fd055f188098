"""The echo that a conversation is compared with: plain gRPC with mutual TLS and nothing else.

It stands in the mesh as any instance does, so that Envoy routes to it; but its server has none of our interceptors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from octopus.echo.v1 import echo_service_pb2, echo_service_pb2_grpc

from mesh.process.config import ServiceConfig
from mesh.process.member import Member
from mesh.process.run import run
from mesh.rpc.server import credentials


class EchoServicer(echo_service_pb2_grpc.EchoServiceServicer):
    """Sends back what it is sent."""

    async def Once(  # noqa: N802  # the contract's name
        self,
        request: echo_service_pb2.OnceRequest,
        context: grpc.aio.ServicerContext[echo_service_pb2.OnceRequest, echo_service_pb2.OnceResponse],
    ) -> echo_service_pb2.OnceResponse:
        """Send back one payload."""
        return echo_service_pb2.OnceResponse(payload=request.payload)

    async def Stream(  # noqa: N802  # the contract's name
        self,
        request_iterator: AsyncIterator[echo_service_pb2.StreamRequest],
        context: grpc.aio.ServicerContext[echo_service_pb2.StreamRequest, echo_service_pb2.StreamResponse],
    ) -> None:
        """Send back each payload."""
        async for request in request_iterator:
            await context.write(echo_service_pb2.StreamResponse(payload=request.payload))


@asynccontextmanager
async def app(member: Member, config: ServiceConfig) -> AsyncIterator[None]:
    """Serve until the member stops."""
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 20_000)])
    echo_service_pb2_grpc.add_EchoServiceServicer_to_server(EchoServicer(), server)
    port = server.add_secure_port(f"{config.host}:{config.port}", credentials(member.identity))
    await server.start()
    try:
        await member.announce(port)
        yield
    finally:
        await server.stop(1.0)


if __name__ == "__main__":
    run(app, ServiceConfig)
