"""The way in: the edge's address, and tokens from it."""

from __future__ import annotations

import hashlib
import hmac
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from octopus.user.v1 import auth_service_pb2, auth_service_pb2_grpc


@dataclass(frozen=True)
class Edge:
    """Where the platform listens, and the certificate authority to trust."""

    host: str
    port: int
    ca: Path

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def channel(self, *, own_connection: bool = False) -> grpc.aio.Channel:
        """Open a gRPC channel over TLS; channels of one process share a connection unless told otherwise."""
        options: list[tuple[str, int]] = [("grpc.use_local_subchannel_pool", int(own_connection))]
        return grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(self.ca.read_bytes()), options)

    def ssl_context(self) -> ssl.SSLContext:
        """Return what a WebSocket or HTTP client needs to trust the edge."""
        return ssl.create_default_context(cafile=self.ca)


@dataclass(frozen=True)
class Identity:
    """A logged-in person."""

    tenant_id: str
    user_id: int
    access_token: str
    refresh_token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a gRPC call carries."""
        return (("authorization", f"Bearer {self.access_token}"),)


async def visitor(channel: grpc.aio.Channel, tenant_id: str, locale: str = "zh-CN") -> Identity:
    """Come to a shop's page as somebody it does not know."""
    response = await auth_service_pb2_grpc.AuthServiceStub(channel).IdentifyShopper(
        auth_service_pb2.IdentifyShopperRequest(tenant_id=tenant_id, locale=locale), timeout=10, wait_for_ready=True
    )
    return _identity(tenant_id, response.user.id, response.tokens)


async def customer(
    channel: grpc.aio.Channel, tenant_id: str, secret: str, customer_id: str, display_name: str
) -> Identity:
    """Come as a customer whose identity the shop's server, which holds `secret`, has signed."""
    identity = sign(tenant_id, secret, customer_id, display_name)
    response = await auth_service_pb2_grpc.AuthServiceStub(channel).IdentifyShopper(
        auth_service_pb2.IdentifyShopperRequest(tenant_id=tenant_id, identity=identity),
        timeout=10,
        wait_for_ready=True,
    )
    return _identity(tenant_id, response.user.id, response.tokens)


async def staff(channel: grpc.aio.Channel, tenant_id: str, login: str, password: str) -> Identity:
    """Log in as a member of a shop's staff."""
    response = await auth_service_pb2_grpc.AuthServiceStub(channel).LogIn(
        auth_service_pb2.LogInRequest(tenant_id=tenant_id, login=login, password=password),
        timeout=10,
        wait_for_ready=True,
    )
    return _identity(tenant_id, response.user.id, response.tokens)


def sign(tenant_id: str, secret: str, customer_id: str, display_name: str) -> auth_service_pb2.SignedIdentity:
    """Do what the shop's server does: sign who is looking at its page."""
    signed_at = int(time.time())
    text = f"{tenant_id}\n{customer_id}\n{display_name}\n{signed_at}"
    return auth_service_pb2.SignedIdentity(
        customer_id=customer_id,
        display_name=display_name,
        signed_at_unix=signed_at,
        signature=hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest(),
    )


def _identity(tenant_id: str, user_id: int, tokens: auth_service_pb2.TokenPair) -> Identity:
    return Identity(tenant_id, user_id, tokens.access_token, tokens.refresh_token)
