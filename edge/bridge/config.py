"""Settings of the bridge."""

from __future__ import annotations

from pydantic import Field

from mesh.process.config import ServiceConfig


class BridgeConfig(ServiceConfig):
    """What can be set about WebSockets."""

    # Connections at once; more are answered with 503 and should come back later.
    max_connections: int = Field(default=20_000, gt=0)
    # Seconds between pings, and seconds a pong may take: together how long a half-open connection lives at most.
    ping_interval_s: float = Field(default=20.0, gt=0)
    ping_timeout_s: float = Field(default=20.0, gt=0)
    # Bytes of one frame that is passed on. A larger one is refused; the connection goes on.
    max_frame_bytes: int = Field(default=128 * 1024, gt=0)
    # Bytes of one frame at which the connection is closed (1009) instead.
    max_message_bytes: int = Field(default=2 * 1024 * 1024, gt=0)
    # Seconds a client has for its hello.
    hello_within_s: float = Field(default=10.0, gt=0)
