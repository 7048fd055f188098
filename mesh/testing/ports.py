"""Loopback ports for the servers of tests, so that two suites can run on one machine at once."""

from __future__ import annotations

from typing import Final

from mesh.platform import ports

# Of this process: a port is not given twice, although its first server may not listen yet.
_given: Final[set[int]] = set()


def free_port() -> int:
    """Return a free port that neither this process nor another one has been given before."""
    port = ports.choose(_given)
    _given.add(port)
    return port
