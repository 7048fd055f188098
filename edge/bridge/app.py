"""Wires the bridge: WebSockets from Envoy by mutual TLS, and one stream to each instance of chat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.chat.v1 import relay_service_pb2_grpc

from edge.bridge.config import BridgeConfig
from edge.bridge.lines import Lines
from edge.bridge.memory import keep_large_blocks_apart
from edge.bridge.server import Service, listening
from edge.bridge.wheel import Wheel
from mesh.process.member import Member


@asynccontextmanager
async def app(member: Member, config: BridgeConfig) -> AsyncIterator[None]:
    """Serve WebSockets until the member stops; then close them with 1001, and clients come back elsewhere."""
    keep_large_blocks_apart()
    wheel = Wheel()
    lines = Lines(relay_service_pb2_grpc.RelayServiceStub(member.channel("chat")), wheel)
    service = Service(config, lines, wheel)
    certificate = member.identity.server_context()
    # Envoy keeps its connections; tickets to resume a session would only be stored.
    certificate.num_tickets = 0
    member.spawn("follow-certificate", member.identity.follow(certificate))
    member.spawn("timers", wheel.turn())
    member.on_stop(service.stop)
    try:
        async with listening(service, certificate) as (port, socket):
            await member.announce(port, socket=socket)
            yield
    finally:
        await lines.close()
