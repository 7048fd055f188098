"""The NATS client of the bus: reconnects without limit, and calls plain functions from the read loop.

nats-py (2.16, pinned) closes permanently on most errors that a server announces, and runs a task and a queue for each
subscription. This is the only module that uses its internals.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.aio.transport import TcpTransport
from nats.errors import ConnectionClosedError, ConnectionDrainingError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from nats.protocol.parser import PERMISSIONS_ERR

from mesh.bus.parser import Parser
from mesh.bus.payload import STREAM_HEADER, TWICE_HEADER

Callback = Callable[[bytes, Mapping[str, str], str, str], None]
"""Called with payload, headers, subject and reply subject. Must not block and must not raise."""

_log = structlog.get_logger(__name__)
_NO_HEADERS: Mapping[str, str] = {}
_VERSION_LENGTH = len("NATS/1.0")
_STREAM_LINE = f"\r\n{STREAM_HEADER}:".encode()
_RETRY_AFTER_S = 0.25
_DENIED = re.compile(r'publish to "([^"]+)"', re.IGNORECASE)
_DENIED_KEPT = 100


class _Transport(TcpTransport):
    """Writes all pending chunks as one: over TLS, each chunk costs a record, here and at the server."""

    def __bool__(self) -> bool:
        # nats-py would replace a transport that is not connected yet with one of its own.
        return True

    def writelines(self, payload: list[bytes]) -> None:
        """Send all of it."""
        self.write(b"".join(payload))  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Close the connection without waiting for the peer."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def connect_tls(self, *args: Any) -> None:
        """Upgrade the connection. See nats-py."""
        await super().connect_tls(*args)
        if self._io_writer is not None:
            # Without it, asyncio logs a warning for each connection that the server closes.
            self._io_writer.transport.get_protocol()._over_ssl = True  # type: ignore[attr-defined]  # noqa: SLF001


class Client(NatsClient):
    """A NATS connection that reconnects until it is closed."""

    def __init__(self, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        super().__init__()
        self._transport = _Transport()  # type: ignore[no-untyped-call]
        self._ps = Parser(self)
        self._tls = tls
        self._direct: dict[int, Callback] = {}
        self._no_queue: asyncio.Queue[Msg] = asyncio.Queue()
        # When the server last refused a publication to a subject, by `loop.time()`; it reports subjects in lower case.
        self._denied: dict[str, float] = {}

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Return the TLS context for the next connection, made anew each time so that rotated certificates are used."""
        if self._tls is None:
            raise NatsError("the server asks for TLS and this client was given no certificate")
        return self._tls()

    @property
    def server_id(self) -> str:
        """Return the id of the server of this connection: it changes with each restart."""
        return str(self._server_info.get("server_id", ""))

    @property
    def in_cluster(self) -> bool:
        """Return whether the server is part of a cluster, whose members may lag behind each other."""
        return bool(self._server_info.get("cluster"))

    async def listen(self, subject: str, callback: Callback) -> int:
        """Call `callback` in the read loop for every message on `subject`, in order; return the subscription's id.

        Nothing is queued on this side: a slow callback slows the whole connection down.
        """
        self._sid += 1
        sid = self._sid
        subscription = NatsSubscription(self, sid, subject)
        # Never used here, and 3 KiB each: chat has two subscriptions for each person who is connected.
        subscription._pending_queue = self._no_queue  # noqa: SLF001  # nats-py has no other way
        self._direct[sid] = callback
        self._subs[sid] = subscription
        await self._send_subscribe(subscription)
        return sid

    async def unlisten(self, sid: int) -> None:
        """End a subscription made by `listen`. Do nothing when it has ended already."""
        if self._direct.pop(sid, None) is None:
            return
        self._subs.pop(sid, None)
        if not self.is_closed:
            with contextlib.suppress(NatsError):
                await self._send_unsubscribe(sid)

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        """Queue a message as nats-py does, which checks and copies each header on its own: 3 times as long."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
        if not headers or lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
            # Whoever wants another line in a header does not get it.
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        head = f"NATS/1.0\r\n{lines}\r\n".encode()
        command = f"HPUB {subject} {reply} {len(head)} {len(head) + payload_size}\r\n".encode()
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(b"".join((command, head, payload, b"\r\n")))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def publish_on_each(self, subjects: Iterable[str], payload: bytes) -> None:
        """Publish the same payload on many subjects, which the server has given, as one piece. Errors as `publish`."""
        if self.is_closed:
            raise ConnectionClosedError
        if self.is_draining_pubs:
            raise ConnectionDrainingError
        end = f" {len(payload)}\r\n{payload.decode()}\r\n"
        commands = [f"PUB {subject}{end}" for subject in subjects]
        blob = "".join(commands).encode()
        if not self.is_connected and len(blob) + self._pending_data_size > self._max_pending_size:
            raise OutboundBufferLimitError
        self.stats["out_msgs"] += len(commands)
        self.stats["out_bytes"] += len(payload) * len(commands)
        await self._send_command(blob)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        callback = self._direct.get(sid)
        if callback is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            callback(data, _headers_of(headers) if headers else _NO_HEADERS, subject.decode(), reply.decode())
        except Exception:  # noqa: BLE001  # logged in full
            # An error in one callback must not end the read loop that all of them share.
            _log.exception("bus callback failed", subject_class=subject.split(b".", 1)[0].decode())

    async def _process_err(self, err_msg: str) -> None:
        if PERMISSIONS_ERR in err_msg:
            if denied := _DENIED.search(err_msg):
                while len(self._denied) >= _DENIED_KEPT:
                    del self._denied[next(iter(self._denied))]
                self._denied[denied[1].lower()] = asyncio.get_running_loop().time()
            await super()._process_err(err_msg)
        else:
            # nats-py would close permanently, e.g. on "slow consumer" or "maximum connections exceeded".
            await self._process_op_err(NatsError(f"nats: {err_msg}"))

    def denied_since(self, subject: str, moment: float) -> bool:
        """Return whether the server refused a publication to the subject at `moment`, by `loop.time()`, or later."""
        return self._denied.get(subject.lower(), float("-inf")) >= moment

    async def _attempt_reconnect(self) -> None:
        if isinstance(self._transport, _Transport):
            # nats-py waits until the transport is closed; over TLS, with a server that is frozen or cut off, that takes
            # half a minute.
            self._transport.abort()
        while not self.is_closed:
            try:
                await super()._attempt_reconnect()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next attempt may succeed
                # An error that nats-py does not expect would end the attempts silently.
                _log.warning("bus reconnect failed, retrying", error=repr(error))
                self._status = NatsClient.RECONNECTING
                await asyncio.sleep(_RETRY_AFTER_S)
            else:
                return


def _headers_of(raw: bytes) -> dict[str, str]:
    """Return the headers of a message, with a status such as `NATS/1.0 404 No Messages` as `Status`, `Description`."""
    version, *lines = raw.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    status = version[_VERSION_LENGTH:].strip()
    if status:
        headers["Status"], _, headers["Description"] = status.partition(" ")
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip()] = value.strip()
    if raw.count(_STREAM_LINE) > 1:
        headers[TWICE_HEADER] = "1"
    return headers
