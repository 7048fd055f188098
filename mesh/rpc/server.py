"""Servers of the mesh: mutual TLS, the rules of the contract, health, reflection, and a graceful end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_interceptor.server import AsyncServerInterceptor
from grpc_reflection.v1alpha import reflection

from mesh.identity import names
from mesh.identity.files import Identity, MissingIdentityError, TornIdentityError
from mesh.rpc import policy
from mesh.rpc.chain import Chain
from mesh.rpc.interceptors.admit import Caller, Roles, Token
from mesh.rpc.interceptors.guard import Deadline, Endless, Errors, Validation
from mesh.rpc.interceptors.observe import AccessLog, Metrics, Trace
from mesh.rpc.policy import Method
from mesh.rpc.tokens import TokenVerifier

_log = structlog.get_logger(__name__)

# Largest message a server takes, in bytes. Far above what the contract allows, so that a text that is too long is
# refused by its rules, with a reason, instead of ending the stream that carries it.
RECEIVE_BYTES: Final = 2 * 1024 * 1024

# Envoy carries many people's streams over one connection.
_CONCURRENT_STREAMS: Final = 20_000

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", RECEIVE_BYTES),
    ("grpc.max_concurrent_streams", _CONCURRENT_STREAMS),
    # Two servers on one port would each get some of the calls; a port in use must be an error.
    ("grpc.so_reuseport", 0),
    # Detects a peer that is gone within 30 + 10 seconds.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Envoy and our own channels ping an idle connection; without these, gRPC would close it as an attack.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)

Register = Callable[[grpc.aio.Server], None]
"""Adds one generated servicer: `lambda server: add_ChatServiceServicer_to_server(servicer, server)`."""


class PortTaken(Exception):
    """The port to listen on is in use."""

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot listen on {address}: the port is in use. Stop the process using it, or set `port`")


class Server:
    """One gRPC server. `start` it, `refuse` new work, `stop` it."""

    def __init__(
        self, server: grpc.aio.Server, endless: Endless, health_servicer: Any, services: Iterable[str], port: int
    ) -> None:
        self._server = server
        self._endless = endless
        self._health = health_servicer
        self._services = tuple(services)
        # Where it listens.
        self.port: Final = port

    async def start(self) -> None:
        """Start accepting calls, and report SERVING to health checks."""
        await self._server.start()
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def refuse(self) -> None:
        """Report NOT_SERVING to health checks. Calls that still arrive are answered."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Stop accepting calls, wait `grace` seconds for running ones, and cancel what is left."""
        await self._health.enter_graceful_shutdown()
        self._endless.end()
        await self._server.stop(grace)

    async def _set(self, status: int) -> None:
        for name in ("", *self._services):
            await self._health.set(name, status)


def build(
    identity: Identity,
    verifier: TokenVerifier,
    *register: Register,
    host: str = "127.0.0.1",
    port: int = 0,
    others: Mapping[str, frozenset[str] | Method] | None = None,
) -> Server:
    """Make a server with every interceptor, not yet started. It listens on `port`, or on a free one when 0.

    `others` names services that carry no options of ours, such as the ADS feed, with the members that may call
    them, or with the rules of all their methods. Raise `mesh.rpc.policy.PolicyError` when a registered contract has a
    method without rules or an unknown caller, and `PortTaken`.
    """
    foreign = dict(others or {})
    for given in foreign.values():
        names.check(given.callers if isinstance(given, Method) else given)

    def rules(path: str) -> Method | None:
        match foreign.get(path.removeprefix("/").rpartition("/")[0]):
            case None:
                return policy.of(path)
            case Method() as method:
                return replace(method, path=path)
            case callers:
                return Method(path, frozenset(), callers, frozenset(), open=True)

    endless = Endless()
    # Outermost first. Errors is inside those that observe, so that they see the outcome that the caller gets.
    interceptors: list[AsyncServerInterceptor] = [
        Trace(),
        Metrics(),
        AccessLog(),
        Errors(),
        Deadline(),
        Caller(),
        Token(verifier),
        Roles(),
        Validation(),
        endless,
    ]
    server = grpc.aio.server(interceptors=[Chain(interceptors, rules)], options=_OPTIONS)
    registered = _Registered(server)
    for add in register:
        add(registered)  # type: ignore[arg-type]  # it has the two methods that generated code calls
    services = [name for name in registered.services if name not in foreign]
    policy.check(services)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if reflection.SERVICE_NAME not in foreign:
        reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, credentials(identity))
    except RuntimeError as error:
        raise PortTaken(address) from error
    return Server(server, endless, health_servicer, services, bound)


def credentials(identity: Identity) -> grpc.ServerCredentials:
    """Return mutual TLS with the newest leaf on disk at each handshake.

    Open connections keep the leaf they began with. A client without a certificate of the mesh is refused.
    """
    last: tuple[object, grpc.ServerCertificateConfiguration] | None = None

    def newest() -> grpc.ServerCertificateConfiguration:
        nonlocal last
        stamp = identity.stamp()
        if last is None or last[0] != stamp:
            last = (stamp, grpc.ssl_server_certificate_configuration([identity.pair()], identity.ca.read_bytes()))
        return last[1]

    def at_handshake() -> grpc.ServerCertificateConfiguration | None:
        try:
            return newest()
        except (OSError, ValueError, MissingIdentityError, TornIdentityError) as error:
            # None keeps the leaf in use; raising would refuse the connection.
            _log.warning("cannot read the newest certificate, using the one before", error=str(error))
            return None

    return grpc.dynamic_ssl_server_credentials(
        newest(),
        at_handshake,  # type: ignore[arg-type]  # None is documented: the leaf in use stays
        require_client_authentication=True,
    )


class _Registered:
    """Wraps the server while servicers are added, and collects the names of their services."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)
        self.services += [handler.service_name() for handler in handlers if hasattr(handler, "service_name")]

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self._server.add_registered_method_handlers(service, handlers)
