"""Who is at the other end of a TLS connection that is not gRPC."""

from __future__ import annotations

import asyncio

from mesh.identity.names import spiffe_id


def is_edge(transport: asyncio.BaseTransport | None) -> bool:
    """Return whether the connection was made with Envoy's certificate, which the TLS layer has verified."""
    certificate = (transport.get_extra_info("peercert") if transport is not None else None) or {}
    return ("URI", spiffe_id("edge")) in certificate.get("subjectAltName", ())
