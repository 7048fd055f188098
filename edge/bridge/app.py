"""Wires the bridge: a WebSocket server with mutual TLS towards Envoy, and a channel to chat."""

from __future__ import annotations

import http
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from octopus.chat.v1 import chat_service_pb2_grpc
from prometheus_client import Gauge
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from edge.bridge.config import BridgeConfig
from edge.bridge.connection import carry
from edge.bridge.frames import CODECS
from edge.bridge.memory import keep_large_blocks_apart
from edge.peer import is_edge
from mesh.process.member import Member

_log = structlog.get_logger(__name__)
_CONNECTIONS = Gauge("octopus_bridge_connections", "Open WebSockets.")

# Bytes that may wait on their way to a client before reading from chat stops.
_WRITE_LIMIT = 32 * 1024
# Messages of a client that may wait before reading from it stops.
_READ_QUEUE = 8


@asynccontextmanager
async def app(member: Member, config: BridgeConfig) -> AsyncIterator[None]:
    """Serve WebSockets until the member stops; then close them with 1001, and clients come back elsewhere."""
    keep_large_blocks_apart()
    chat = chat_service_pb2_grpc.ChatServiceStub(member.channel("chat"))

    async def handle(ws: ServerConnection) -> None:
        with _CONNECTIONS.track_inprogress():
            await carry(ws, chat, config)

    def admit(ws: ServerConnection, request: Request) -> Response | None:
        if not is_edge(ws.transport):
            return ws.respond(http.HTTPStatus.FORBIDDEN, "Only the edge may call the bridge.\n")
        path, _, query = request.path.partition("?")
        if path != "/ws":
            return ws.respond(http.HTTPStatus.NOT_FOUND, "The chat is at /ws.\n")
        if query:
            # Addresses end up in logs and histories; a token must not.
            return ws.respond(http.HTTPStatus.BAD_REQUEST, "/ws takes no query. The token goes into the hello.\n")
        if len(server.connections) > config.max_connections:
            return ws.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections. Try again later.\n")
        return None

    certificate = member.identity.server_context()
    # Envoy keeps its connections; tickets to resume a session would only be stored.
    certificate.num_tickets = 0
    member.spawn("follow-certificate", member.identity.follow(certificate))
    server: Server
    async with serve(
        handle,
        config.host,
        config.port,
        ssl=certificate,
        subprotocols=[Subprotocol(name) for name in CODECS],
        process_request=admit,
        # Chat frames are small: compression would cost 64 KiB a connection and save little.
        compression=None,
        ping_interval=config.ping_interval_s,
        ping_timeout=config.ping_timeout_s,
        max_size=config.max_message_bytes,
        max_queue=_READ_QUEUE,
        write_limit=_WRITE_LIMIT,
        server_header=None,
        logger=None,
    ) as server:
        await member.announce(server.sockets[0].getsockname()[1])
        yield
