"""What Envoy's resources are made from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mesh.process.config import ServiceConfig


class EdgeConfig(ServiceConfig):
    """What can be set about the edge; the control process reads it, because it serves Envoy's configuration."""

    # Folder for what Envoy reads: `envoy.json` and the files that name its certificates. Written at the start.
    envoy_folder: Path
    # Where Envoy takes from bridges on its machine, by a Unix domain socket, the connections that are no WebSockets.
    # With it, connections that are not HTTP/2 go to such bridges without being read, which halves the memory of a
    # silent WebSocket. Absent, or with `trusted_proxies`: Envoy reads them all.
    http_socket: Path | None = None
    # Where Envoy takes connections from outside.
    edge_host: str = "127.0.0.1"
    # As above.
    edge_port: int = Field(default=8443, ge=1, le=65535)
    # Where Envoy's `/metrics` and `/ready` are served, and the port.
    edge_metrics_host: str = "127.0.0.1"
    # As above.
    edge_metrics_port: int = Field(ge=1, le=65535)
    # Folder of the public certificate: `<public_name>/cert.pem` and `<public_name>/key.pem` in it.
    public_folder: Path
    # As above.
    public_name: str = "edge-public"
    # Origins whose pages may call the API, e.g. "https://shop.example". "*" admits all: tokens are not cookies, so a
    # foreign page gains nothing by calling.
    allowed_origins: tuple[str, ...] = ("*",)
    # How many connections from outside Envoy holds at once; further ones are closed at once.
    max_connections: int = Field(default=20_000, ge=1, le=1_000_000)
    # How many connections from outside are taken a second; further ones are closed before their handshake, which costs
    # next to nothing, and clients come back. A handshake and what follows it take about 8 ms of processor time in all
    # processes together: on larger machines this may be more.
    connections_per_second: int = Field(default=100, ge=10, le=1_000_000)
    # How many may come at once after a quiet time.
    connections_at_once: int = Field(default=600, ge=10, le=1_000_000)
    # Envoy gives way (no new connections, less memory kept back) as its heap comes near this.
    max_heap_mb: int = Field(default=1024, ge=128, le=65_536)
    # File of Envoy's access log; absent: its standard output.
    access_log: Path | None = None
    # How many calls a minute one client address may make, by the limit that the contract names for a method. As many
    # may come at once. Addresses of version 6 count by their network of 64 bits. Many people may share an address.
    identify_per_minute: int = Field(default=3_000, ge=1, le=1_000_000)
    # As above: tries of a password or a secret.
    credentials_per_minute: int = Field(default=60, ge=1, le=1_000_000)
    # As above: exchanges of refresh tokens.
    tokens_per_minute: int = Field(default=1_200, ge=1, le=1_000_000)
    # As above: streams that are opened, and WebSockets where Envoy reads them; bridges count those that it does not.
    streams_per_minute: int = Field(default=3_000, ge=1, le=1_000_000)
    # How many proxies of ours stand before Envoy. The client's address is what the outermost of them has added to
    # `x-forwarded-for`; with 0 it is where the connection comes from, and the header is not looked at.
    trusted_proxies: int = Field(default=0, ge=0, le=8)
