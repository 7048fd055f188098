"""Channels to other services: discovery by xDS, mutual TLS, timeouts below the running call's deadline.

```
session = SessionServiceStub(member.channel("session"))
answer = await session.GetSession(request, metadata=metadata.on_behalf(principal.current()))
```

A call with one answer raises `mesh.errors.Refused` when it fails, with the reason that the service sent; when a handler
does not catch it, its own caller gets the same reason. Streams raise gRPC's own `AioRpcError` while they are read;
`mesh.errors.from_rpc_error` converts it. Retries are configured by the control plane, not here.

Cancel a stream that is not read to its end: gRPC 1.83 and newer never collect an abandoned one (grpc issue 43462), so
it would stay open as long as the channel. A handler that ends its stream on `CancelledError` raises it again, or gRPC
loses a hundred bytes a call (grpc issue 43360).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Final, Self

import grpc

from mesh import deadline
from mesh.errors import from_rpc_error
from mesh.identity import names
from mesh.identity.files import Identity
from mesh.rpc.measure import Outgoing

# Largest answer, in bytes: a page of history.
_RECEIVE_BYTES: Final = 4 * 1024 * 1024

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _RECEIVE_BYTES),
    # An idle channel detects within 30 + 10 seconds that its peer is gone.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Long pauses between attempts would prolong the outage after a restart of the server.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def connect(service: str, identity: Identity, *, address: str | None = None) -> grpc.aio.Channel:
    """Open a channel to a service, lazily: nothing is connected before the first call.

    Without an address the service is found by the control plane (call `mesh.control.bootstrap` first), the server's
    name is verified, and each connection uses the newest leaf. With an address, `host:port`, the leaf is read once: for
    tests and short-lived tools. Raise `mesh.identity.names.UnknownNameError`.
    """
    names.check([service])
    if address is None:
        # Plain text would only be used if the control plane sent no TLS settings; it always does.
        credentials = grpc.xds_channel_credentials()
        return Channel(grpc.aio.secure_channel(f"xds:///{service}", credentials, options=_OPTIONS), service)
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", names.dns_name(service)))
    credentials = grpc.ssl_channel_credentials(
        identity.ca.read_bytes(), identity.key.read_bytes(), identity.cert.read_bytes()
    )
    return Channel(grpc.aio.secure_channel(address, credentials, options=options), service)


class Channel(grpc.aio.Channel):
    """A gRPC channel whose calls carry the trace, keep the deadline, and are counted.

    Not by interceptors: those of grpc-interceptor have no asyncio form, and gRPC's own put a queue between a stream and
    its caller.
    """

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        self._channel = channel
        self._service = service

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Return a callable for a method with one request and one answer."""
        return _OneAnswer(self._channel.unary_unary(method, *args, **options), method)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Return a callable for a method with many requests and one answer."""
        return _OneAnswer(self._channel.stream_unary(method, *args, **options), method)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Return a callable for a method with one request and many answers."""
        return _Stream(self._channel.unary_stream(method, *args, **options), method)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Return a callable for a method with many requests and many answers."""
        return _Stream(self._channel.stream_stream(method, *args, **options), method)

    async def close(self, grace: float | None = None) -> None:
        """End running calls after `grace` seconds, and the connections."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the connection is no longer in that state."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when calls can be made."""
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class _OneAnswer:
    """Makes calls that have one answer."""

    def __init__(self, dial: Callable[..., Any], method: str) -> None:
        self._dial = dial
        self._method = method

    def __call__(
        self,
        *request: Any,
        timeout: float | None = deadline.OUTGOING,
        metadata: Iterable[tuple[str, str]] = (),
        **options: Any,
    ) -> _Answer:
        """Start a call. `timeout` in seconds, 5 by default, limited by the running call's deadline."""
        seen = Outgoing(self._method)
        call = self._dial(
            *request, timeout=deadline.shrunk(timeout), metadata=(*metadata, *seen.headers.items()), **options
        )
        seen.follow(call)
        return _Answer(call)


class _Answer(Awaitable[Any]):
    """A running call with one answer; awaiting it raises `Refused`. Everything else is gRPC's call."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._call.__await__())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class _Stream:
    """Makes calls that have many answers; gRPC's own call is returned, so reading it costs nothing more."""

    def __init__(self, dial: Callable[..., Any], method: str) -> None:
        self._dial = dial
        self._method = method

    def __call__(
        self,
        *request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str]] = (),
        **options: Any,
    ) -> Any:
        """Start a call without a timeout unless one is given; within a call that has a deadline, it is kept."""
        seen = Outgoing(self._method)
        call = self._dial(
            *request, timeout=deadline.shrunk(timeout), metadata=(*metadata, *seen.headers.items()), **options
        )
        seen.follow(call)
        return call
