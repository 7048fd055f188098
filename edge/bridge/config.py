"""Settings of the bridge."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mesh.process.config import ServiceConfig


class BridgeConfig(ServiceConfig):
    """What can be set about WebSockets."""

    # Folder for a Unix domain socket, on which an edge on this machine connects without TLS; only this user may enter
    # it. Absent: the edge is elsewhere, and connects to `port`.
    socket_folder: Path | None = None
    # The edge's own socket, by which it gets back connections that are no WebSockets: `http_socket` in its settings.
    # Absent: the edge reads all connections itself.
    edge_socket: Path | None = None
    # How many WebSockets a minute one client address may open here, where the edge does not count them. As many may
    # come at once. Addresses of version 6 count by their network of 64 bits.
    upgrades_per_minute: int = Field(default=3_000, ge=1, le=1_000_000)
    # Connections at once; more are answered with 503 and should come back later.
    max_connections: int = Field(default=20_000, gt=0)
    # Seconds between two looks at a client: one that was silent since the last is pinged, and closed at the next. So a
    # half-open connection lives three times as long at most.
    ping_interval_s: float = Field(default=14.0, gt=0)
    # Largest message that is forwarded, in bytes. A larger one is refused; the connection stays open.
    max_frame_bytes: int = Field(default=128 * 1024, gt=0)
    # Bytes of one message at which the connection is closed (1009) instead.
    max_message_bytes: int = Field(default=2 * 1024 * 1024, gt=0)
    # Seconds a client has for its hello.
    hello_within_s: float = Field(default=10.0, gt=0)
