"""Answers to this process's requests, all on one subscription: `<inbox>.<n>`, one number for each request.

The inbox lies under `_INBOX.<identity>`, so that the server's permissions keep members from
reading each other's answers.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mesh.bus.client import Client
from mesh.bus.errors import Unavailable


class Reply(NamedTuple):
    """One answer. `headers["Status"]` is set in the server's own notices, e.g. "503" without a subscriber."""

    data: bytes
    headers: Mapping[str, str]

    @property
    def status(self) -> str:
        """Return the status of a notice, "" for ordinary answers."""
        return self.headers.get("Status", "")


Collector = Callable[[Reply], None]


class Replies:
    """Matches answers with pending requests. A lost connection fails all of them at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._next = 0
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._collecting: dict[str, tuple[Collector, asyncio.Future[None]]] = {}

    async def start(self) -> None:
        """Subscribe; call once when the client is connected, before the first request."""
        self._inbox = self._client.new_inbox()
        await self._client.listen(f"{self._inbox}.*", self._on_reply)

    @property
    def may_be_stale(self) -> bool:
        """Return whether the server that answers a direct get may lag behind the leader."""
        return self._client.in_cluster

    async def request(self, subject: str, payload: bytes, headers: dict[str, str] | None, timeout: float) -> Reply:
        """Send one request and return the first answer, notices included.

        Raise TimeoutError, or Unavailable when the connection is lost.
        """
        token = self._token()
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        try:
            # Sending blocks while the server does not read.
            async with asyncio.timeout(timeout):
                await self._client.publish(subject, payload, f"{self._inbox}.{token}", headers)
                return await future
        finally:
            self._waiting.pop(token, None)

    async def collect(self, subject: str, payload: bytes, collector: Callable[[Reply], bool], timeout: float) -> None:
        """Send one request and pass its answers to `collector` until it returns True. Raise as `request`."""
        token = self._token()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(reply: Reply) -> None:
            if not done.done() and collector(reply):
                done.set_result(None)

        self._collecting[token] = (take, done)
        try:
            async with asyncio.timeout(timeout):
                await self._client.publish(subject, payload, f"{self._inbox}.{token}")
                await done
        finally:
            self._collecting.pop(token, None)

    def connection_lost(self) -> None:
        """Fail all pending requests: their answers may have been lost with the connection."""
        ended: list[asyncio.Future[Any]] = [*self._waiting.values(), *(done for _, done in self._collecting.values())]
        for future in ended:
            if not future.done():
                future.set_exception(Unavailable("the connection to NATS was lost before the answer arrived"))

    def _token(self) -> str:
        self._next += 1
        return str(self._next)

    def _on_reply(self, data: bytes, headers: Mapping[str, str], subject: str, _reply: str) -> None:
        token = subject.rpartition(".")[2]
        future = self._waiting.get(token)
        if future is not None:
            if not future.done():
                future.set_result(Reply(data, headers))
            return
        collecting = self._collecting.get(token)
        if collecting is not None:
            collecting[0](Reply(data, headers))
