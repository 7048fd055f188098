"""Devices that know several edges, as by a name with several addresses, and go to one that answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from octopus.chat.v1 import frame_pb2

from e2e.clients.edge import Edge, Identity
from e2e.clients.transports import Grpc, Stream, Transport, WebSocket

# Seconds after which the next address is tried.
_ANSWERS_WITHIN_S = 1.0


class ByAnyEdge:
    """Transports that begin with another edge each, and go on with the next one when theirs does not answer."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        self._edges = edges
        self._first = itertools.count()

    def grpc(self) -> Transport:
        """Return a gRPC transport with a connection of its own."""
        return _Roaming(self._order(), lambda edge: Grpc(edge, own_connection=True))

    def websocket(self, *, json: bool = False) -> Transport:
        """Return a WebSocket transport."""
        return _Roaming(self._order(), lambda edge: WebSocket(edge, json=json))

    def _order(self) -> list[Edge]:
        first = next(self._first) // 2 % len(self._edges)
        return [*self._edges[first:], *self._edges[:first]]


class _Roaming:
    def __init__(self, edges: list[Edge], transport: Callable[[Edge], Transport]) -> None:
        self._edges = edges
        self._transport = transport

    @asynccontextmanager
    async def open(self, identity: Identity, hello: frame_pb2.Hello) -> AsyncIterator[Stream]:
        """Open a stream at the first edge that answers and say hello on it."""
        for edge in list(self._edges):
            if await _answers(edge):
                break
            # The next time it is the last one to be tried.
            self._edges.remove(edge)
            self._edges.append(edge)
        else:
            raise ConnectionError("no edge answers")
        async with self._transport(edge).open(identity, hello) as stream:
            yield stream


async def _answers(edge: Edge) -> bool:
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            _, writer = await asyncio.open_connection(edge.host, edge.port)
    except OSError:
        return False
    writer.close()
    return True
