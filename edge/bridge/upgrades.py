"""What a connection from outside begins with: where its client is, and whether it wants a WebSocket."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# PROXY protocol, version 2: the signature, then version and command, family, and the length of what follows.
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final = struct.Struct("!12sBBH")
_PROXIED: Final = 0x21
_TCP_4: Final = 0x11
_TCP_6: Final = 0x21

_REQUEST: Final = b"GET /ws HTTP/1.1"
_END: Final = b"\r\n\r\n"
# Envoy refuses more, and is left to say so.
_MOST_BYTES: Final = 16 * 1024
_MOST_HEADERS: Final = 64
# What the bridge reads of an upgrade, and what picows does.
_PASSED_ON: Final = frozenset(
    (b"authorization", b"traceparent", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol")
)
_BODIES: Final = frozenset((b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class Announced:
    """Where a client is, as the edge says before anything else."""

    # Bytes that it took.
    size: int
    # What limits go by: the address, of version 6 the network of 64 bits; empty when the edge does not say.
    network: bytes


def announced(data: bytes) -> Announced | None:
    """Read the edge's announcement; None as long as there is too little.

    Raises:
        ValueError: it is none.

    """
    if not _SIGNATURE.startswith(data[:12]):
        raise ValueError("no PROXY header of version 2")
    if len(data) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(data)
    size = _FIXED.size + length
    if len(data) < size:
        return None
    if command >> 4 != 2:
        raise ValueError("no PROXY header of version 2")
    network = b""
    if command == _PROXIED and family == _TCP_4 and length >= 12:
        network = data[16:20]
    elif command == _PROXIED and family == _TCP_6 and length >= 36:
        mapped = ipaddress.IPv6Address(data[16:32]).ipv4_mapped
        network = data[16:24] if mapped is None else mapped.packed
    return Announced(size, network)


def is_announced(data: bytes) -> bool:
    """Whether a connection begins with the edge's announcement, or may as far as it has come."""
    return _SIGNATURE.startswith(data[:12])


def undecided(data: bytes) -> bool:
    """Whether a request may be an upgrade to a WebSocket, and its headers have not come to their end."""
    begun = data[: len(_REQUEST)]
    return _REQUEST.startswith(begun) and len(data) < _MOST_BYTES and _END not in data


def upgrade(data: bytes) -> bytes | None:
    """Return the bytes of an upgrade to a WebSocket with the headers that matter, and what came after them.

    None for everything that a browser would not send: Envoy, which reads HTTP as a whole, deals with that.
    """
    head, end, rest = data.partition(_END)
    if not end or len(head) > _MOST_BYTES or b"\x00" in head:
        return None
    request, *lines = head.split(b"\r\n")
    if request != _REQUEST or len(lines) > _MOST_HEADERS:
        return None
    headers = [line.partition(b":") for line in lines]
    # A line without a colon, a folded one, or space before the colon.
    if not all(colon and name and name == name.strip() for name, colon, _ in headers):
        return None
    found = [(name.lower(), value.strip()) for name, _, value in headers]
    names = [name for name, _ in found]
    if names.count(b"host") != 1 or not _BODIES.isdisjoint(names):
        return None
    if b"websocket" not in _tokens(found, b"upgrade") or b"upgrade" not in _tokens(found, b"connection"):
        return None
    passed_on = [name + b": " + value for name, value in found if name in _PASSED_ON]
    return b"\r\n".join((_REQUEST, b"Upgrade: websocket", b"Connection: Upgrade", *passed_on)) + _END + rest


def _tokens(headers: list[tuple[bytes, bytes]], wanted: bytes) -> Iterator[bytes]:
    for name, value in headers:
        if name == wanted:
            for token in value.split(b","):
                yield token.strip().lower()
