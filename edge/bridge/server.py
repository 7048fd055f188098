"""Accept WebSockets from the edge."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from picows import WSAutoPingStrategy, WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # there, but not in its stubs
from prometheus_client import Gauge

from edge.bridge.client import GOING_AWAY, WebSocket
from edge.bridge.config import BridgeConfig
from edge.bridge.frames import CODECS
from edge.bridge.gate import Gate, Gates
from edge.bridge.lines import Lines
from edge.bridge.rate_limit import RateLimit
from edge.bridge.unix import OnUnixSocket, private_socket, socket_path
from edge.bridge.wheel import Wheel
from edge.peer import is_edge

_CONNECTIONS: Final = Gauge("octopus_bridge_connections", "Open WebSockets.")
# Bytes that a connection reads into at first; it grows with larger messages. Most clients are idle.
_READ_BYTES: Final = 2048
# Seconds for the upgrade's headers, which Envoy sends at once.
_UPGRADE_WITHIN_S: Final = 5.0
# Connections that may wait for us; the edge goes elsewhere with more.
_BACKLOG: Final = 1024
# Seconds that clients have for their half of the close when the bridge stops.
_CLOSE_WITHIN_S: Final = 2.0

# Not a `logging.Logger`: picows would make a child of it for each connection, a kilobyte each.
_quiet: Final = logging.LoggerAdapter(logging.getLogger("picows"), {})
logging.getLogger("picows").setLevel(logging.ERROR)


class Service:
    """All WebSockets of this bridge, and what they need."""

    def __init__(self, config: BridgeConfig, lines: Lines, wheel: Wheel) -> None:
        self.config = config
        self.lines = lines
        self.wheel = wheel
        self._open: set[WebSocket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._empty = asyncio.Event()

    def admit(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        """Let a WebSocket in, or answer why not."""
        path, _, query = request.path.decode("ascii", "replace").partition("?")
        if path != "/ws":
            return _no(http.HTTPStatus.NOT_FOUND, "The chat is at /ws.")
        if query:
            # Addresses end up in logs and histories; a token must not.
            return _no(http.HTTPStatus.BAD_REQUEST, "/ws takes no query. The token goes into the hello.")
        if self._stopping or len(self._open) >= self.config.max_connections:
            return _no(http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections. Try again later.")
        offered = [
            each.strip() for line in request.headers.getall("Sec-WebSocket-Protocol", ()) for each in line.split(",")
        ]
        subprotocol = next((each for each in offered if each in CODECS), None)
        if subprotocol is None:
            return _no(http.HTTPStatus.BAD_REQUEST, f"Name a subprotocol: {' or '.join(CODECS)}.")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        client = WebSocket(
            self,
            CODECS[subprotocol],
            token.strip() if scheme.lower() == "bearer" else "",
            request.headers.get("traceparent", "")[:64],
        )
        accepted = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": subprotocol})
        return WSUpgradeResponseWithListener(accepted, client)

    def came(self, client: WebSocket) -> None:
        """Count a client in."""
        self._open.add(client)
        _CONNECTIONS.inc()

    def went(self, client: WebSocket) -> None:
        """Count a client out."""
        if client in self._open:
            self._open.discard(client)
            _CONNECTIONS.dec()
            if not self._open:
                self._empty.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something for a client."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Close all with 1001, going away: clients reconnect to another instance."""
        self._stopping = True
        for client in list(self._open):
            client.close(GOING_AWAY, "")

    async def stopped(self) -> None:
        """Return when all clients have gone, or have had their time."""
        self.stop()
        self._empty.clear()
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await self._empty.wait()
        for task in self._tasks:
            task.cancel()


class _FromEdge(WSProtocol):  # type: ignore[misc]  # untyped
    """A connection that only the edge may open."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            None,  # host and port, of clients only
            None,  # path, of clients only
            False,  # a client
            service.admit,
            _quiet,
            True,  # disconnect after an exception
            _UPGRADE_WITHIN_S,
            False,  # pings: the wheel sends them
            0.0,  # the time between them
            0.0,  # the time for an answer
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # answer pings
            service.config.max_message_bytes,
            None,  # headers, of clients only
            _READ_BYTES,
        )

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Close connections of other members."""
        super().connection_made(transport)
        if not is_edge(transport):
            transport.abort()


class _ByGate(_FromEdge):
    """A connection by Unix domain socket, which a gate has let in."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take over the connection."""
        super(_FromEdge, self).connection_made(OnUnixSocket(transport))


@asynccontextmanager
async def listening(service: Service, certificate: ssl.SSLContext) -> AsyncIterator[tuple[int, Path | None]]:
    """Take WebSockets over mutual TLS, and by Unix domain socket where there is a folder for it; gives both."""
    config = service.config
    loop = asyncio.get_running_loop()
    path = socket_path(config.socket_folder, config.instance)
    gates = Gates(
        lambda: _ByGate(service), edge_socket=config.edge_socket, rate_limit=RateLimit(config.upgrades_per_minute)
    )
    async with AsyncExitStack() as stack:
        server = await loop.create_server(lambda: _FromEdge(service), config.host, config.port, ssl=certificate)
        stack.callback(server.close)
        if path is not None:
            local = await loop.create_unix_server(lambda: Gate(gates), sock=private_socket(path), backlog=_BACKLOG)
            stack.callback(path.unlink, missing_ok=True)
            stack.callback(local.close)
        try:
            yield int(server.sockets[0].getsockname()[1]), path
        finally:
            # New clients find another bridge while these go.
            await asyncio.gather(service.stopped(), gates.stopped())


def _no(status: http.HTTPStatus, text: str) -> WSUpgradeResponseWithListener:
    response = WSUpgradeResponse.create_error_response(status, f"{text}\n".encode())
    return WSUpgradeResponseWithListener(response, None)
