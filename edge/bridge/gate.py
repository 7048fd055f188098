"""Connections from outside that the edge has decrypted and not read: WebSockets stay here, all others go back to it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import structlog

from edge.bridge.rate_limit import RateLimit
from edge.bridge.unix import peer_uid
from edge.bridge.upgrades import announced, is_announced, undecided, upgrade

_log = structlog.get_logger(__name__)

# Seconds for the headers of the first request.
_DECIDE_WITHIN_S: Final = 10.0
# Seconds that the edge has to take a connection back.
_TAKE_BACK_WITHIN_S: Final = 5.0
# When the bridge stops, connections that went back are closed after so many silent seconds, and all after so many.
_QUIET_S: Final = 0.5
_CLOSE_WITHIN_S: Final = 3.0

_RETRY_AFTER_S: Final = 5
_TOO_MANY: Final = (
    f"too many calls from your address; try again after {_RETRY_AFTER_S} s"
    f" / 您的网络地址请求过于频繁，请在 {_RETRY_AFTER_S} 秒后重试"
).encode()
_REFUSAL: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    + f"retry-after: {_RETRY_AFTER_S}\r\ncontent-length: {len(_TOO_MANY)}\r\n\r\n".encode()
    + _TOO_MANY
)


class Gates:
    """What the gates of a bridge share."""

    def __init__(
        self, make: Callable[[], asyncio.BufferedProtocol], *, edge_socket: Path | None, rate_limit: RateLimit
    ) -> None:
        self.make = make
        self.edge_socket = edge_socket
        self.rate_limit = rate_limit
        self.returned: set[_Half] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def give_back(self, gate: Gate, transport: asyncio.Transport, data: bytes) -> None:
        """Let the edge read a connection; `data` is all that has come, the announcement included."""
        task = asyncio.create_task(self._give_back(gate, transport, data), name="give back connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stopped(self) -> None:
        """Return when the connections that went back are closed: those under way get some time."""
        give_up_at = time.monotonic() + _CLOSE_WITHIN_S
        while self.returned:
            now = time.monotonic()
            for half in list(self.returned):
                if now >= give_up_at or now - half.heard_at >= _QUIET_S:
                    half.close()
            await asyncio.sleep(_QUIET_S / 5)
        for task in self._tasks:
            task.cancel()

    async def _give_back(self, gate: Gate, transport: asyncio.Transport, data: bytes) -> None:
        if self.edge_socket is None:
            transport.abort()
            return
        inner = _Half(self)
        try:
            async with asyncio.timeout(_TAKE_BACK_WITHIN_S):
                await asyncio.get_running_loop().create_unix_connection(lambda: inner, str(self.edge_socket))
        except OSError as problem:
            _log.warning("edge does not take connections back", error=type(problem).__name__)
            transport.abort()
            return
        outer = _Half(self)
        outer.join(inner)
        inner.join(outer)
        if gate.lost or transport.is_closing():
            inner.close()
            return
        transport.set_protocol(outer)
        outer.connection_made(transport)
        inner.take(data)
        transport.resume_reading()


class Gate(asyncio.Protocol):
    """One connection, until it is known what it is."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._timer: asyncio.TimerHandle | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hang up on anybody but ourselves, which the kernel confirms."""
        # uvloop's is one too, by its methods.
        whole = self._transport = cast("asyncio.Transport", transport)
        if peer_uid(whole) != os.geteuid():
            whole.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(_DECIDE_WITHIN_S, whole.abort)

    def data_received(self, data: bytes) -> None:
        """Decide as soon as enough has come."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._data += data
        if not is_announced(self._data):
            # The edge has read this one itself, and asks for a WebSocket.
            self._keep(transport, self._data)
            return
        try:
            client = announced(self._data)
        except ValueError:
            transport.abort()
            return
        if client is None:
            return
        request = self._data[client.size :]
        if undecided(request):
            return
        opening = upgrade(request)
        if opening is None:
            self._settled()
            transport.pause_reading()
            self._gates.give_back(self, transport, self._data)
        elif self._gates.rate_limit.spend(client.network, time.monotonic()):
            self._keep(transport, opening)
        else:
            self._settled()
            transport.write(_REFUSAL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.lost = True
        self._settled()

    def _keep(self, transport: asyncio.Transport, data: bytes) -> None:
        self._settled()
        taker = self._gates.make()
        # uvloop learns only at the next start of reading that its new protocol has a buffer.
        transport.pause_reading()
        transport.set_protocol(taker)
        taker.connection_made(transport)
        transport.resume_reading()
        _feed(taker, transport, data)

    def _settled(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Half(asyncio.Protocol):
    """One end of a connection that goes on to the edge: what comes here goes out at the other end."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._transport: asyncio.Transport | None = None
        self._other: _Half | None = None
        # Whether this side says no more.
        self.ended = False
        self.heard_at = time.monotonic()

    def join(self, other: _Half) -> None:
        """Connect both ends; called once for each."""
        self._other = other

    def take(self, data: bytes) -> None:
        """Write."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def take_end(self) -> bool:
        """Write that no more comes; False when this must be told by closing."""
        if self._transport is None or self.ended or not self._transport.can_write_eof():
            return False
        self._transport.write_eof()
        return True

    def listen(self, *, on: bool) -> None:
        """Read, or read no more for a while."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() is on:
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def close(self) -> None:
        """Close, when what was written has gone."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._gates.returned.add(self)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self.heard_at = time.monotonic()
        if self._other is not None:
            self._other.heard_at = self.heard_at
            self._other.take(data)

    def eof_received(self) -> bool:
        """Pass on that this side says no more; the other one may."""
        self.ended = True
        return self._other is not None and self._other.take_end()

    def pause_writing(self) -> None:
        """Read no more from the other end until this one has taken what waits."""
        if self._other is not None:
            self._other.listen(on=False)

    def resume_writing(self) -> None:
        """Read again."""
        if self._other is not None:
            self._other.listen(on=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end, too."""
        self._gates.returned.discard(self)
        self._transport = None
        if self._other is not None:
            self._other.close()
            self._other = None


def _feed(taker: asyncio.BufferedProtocol, transport: asyncio.Transport, data: bytes) -> None:
    rest = memoryview(data)
    while rest and not transport.is_closing():
        buffer = memoryview(taker.get_buffer(len(rest)))
        taken = min(len(buffer), len(rest))
        buffer[:taken] = rest[:taken]
        rest = rest[taken:]
        taker.buffer_updated(taken)
