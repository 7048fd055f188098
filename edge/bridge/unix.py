"""Unix domain sockets: one that only its owner may open, who opened it, and what picows must not ask of it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)

# Bytes of a path that the kernel takes, the zero at its end included.
_LONGEST: Final = 108
_CREDENTIALS: Final = struct.Struct("3i")


def socket_path(folder: Path | None, instance: str) -> Path | None:
    """Return where an instance listens in a folder; None without a folder, or when the path is too long for one."""
    if folder is None:
        return None
    path = folder.absolute() / f"{instance}.sock"
    if len(os.fsencode(path)) >= _LONGEST:
        _log.warning("path too long for a socket, the edge connects by TLS", path=str(path), longest=_LONGEST - 1)
        return None
    return path


def private_socket(path: Path) -> socket.socket:
    """Return a bound socket that only this user may open, in a folder that only this user may enter.

    Raises:
        PermissionError: the folder belongs to somebody else, or is open to others.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.parent.stat()
    if folder.st_uid != os.geteuid() or stat.S_IMODE(folder.st_mode) & 0o077:
        raise PermissionError(f"{path.parent} must belong to the user that runs the bridge, with mode 0700")
    # What a killed process has left behind.
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.setblocking(False)
    bound.bind(str(path))
    path.chmod(0o600)
    return bound


def peer_uid(transport: asyncio.BaseTransport) -> int:
    """Return the user whose process is at the other end, as the kernel knows it; -1 when it does not."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as peer:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return int(uid)


class OnUnixSocket:
    """A transport as picows wants it: asked for TCP's options, its socket does nothing."""

    __slots__ = ("_socket", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket = _WithoutTcp(transport.get_extra_info("socket"))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the transport's own, but for the socket."""
        return self._socket if name == "socket" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _WithoutTcp:
    __slots__ = ("_socket",)

    def __init__(self, wrapped: Any) -> None:
        self._socket = wrapped

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def setsockopt(self, level: int, *option: Any) -> None:
        if level != socket.IPPROTO_TCP:
            self._socket.setsockopt(level, *option)

    def getsockopt(self, level: int, *option: Any) -> Any:
        return 0 if level == socket.IPPROTO_TCP else self._socket.getsockopt(level, *option)
