"""Loopback ports: free ones, and whether a given one is."""

from __future__ import annotations

import socket
from collections.abc import Collection

import psutil

# Below what Linux hands out to outgoing connections, so that a kept port is not taken by one of those.
_FIRST, _LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Say whether something could listen on the loopback port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still dying counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(start: int, taken: Collection[int] = ()) -> int:
    """Return a free port at or after `start`, wrapping around the range 20000-31999. Raise OSError when none is left.

    Different starts keep platforms on one machine apart.
    """
    size = _LAST - _FIRST
    for offset in range(size):
        port = _FIRST + (start + offset) % size
        if port not in taken and is_free(port):
            return port
    raise OSError("no loopback port between 20000 and 31999 is free")


def listener(port: int) -> str:
    """Return who listens on a loopback port, in words."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr[1:] == (port,):
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another program"
