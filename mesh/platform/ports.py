"""Loopback ports: free ones, and whether a given one is."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Collection, Iterator
from typing import Final

import psutil

# Below what Linux hands out to outgoing connections, so that a kept port is not taken by one of those.
_FIRST, _LAST, _BLOCK = 20_000, 32_000, 50

# The blocks of this process, by their first port: the sockets that claim them.
_claimed: Final[dict[int, int]] = {}
_random: Final = secrets.SystemRandom()


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


def choose(taken: Collection[int] = ()) -> int:
    """Return a free port between 20000 and 31999 that is not in `taken`. Raise OSError when none is left.

    No other process on this machine is given it as long as this one runs, even before anything listens on it.
    """
    for block in _blocks():
        for port in _random.sample(range(block, block + _BLOCK), _BLOCK):
            if port not in taken and is_free(port):
                return port
    raise OSError(f"no loopback port between {_FIRST} and {_LAST - 1} is free")


def _blocks() -> Iterator[int]:
    """Yield the first port of each block that is ours already, and then of those that become ours."""
    yield from tuple(_claimed)
    blocks = range(_FIRST, _LAST, _BLOCK)
    for block in _random.sample(blocks, len(blocks)):
        if block not in _claimed and _claim(block):
            yield block


def _claim(block: int) -> bool:
    """Take a block of ports for this process. Where there are no abstract sockets, chance alone keeps blocks apart."""
    with socket.socket(socket.AF_UNIX) as claim:
        if sys.platform == "linux":
            try:
                # The kernel gives it back when this process ends, however that ends.
                claim.bind(f"\0octopus-ports-{block}")
            except OSError:
                return False
        _claimed[block] = claim.detach()
    return True


def listener(port: int) -> str:
    """Return who listens on a loopback port, in words."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr[1:] == (port,):
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another program"
