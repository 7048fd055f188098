"""Valkey: live state that may be lost and is rebuilt from PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError  # noqa: A004  # redis has no other names for them

from mesh.stores import budget
from mesh.stores.cancellation import cancellable
from mesh.stores.errors import Unavailable

# Time limit of a command with all its attempts, in seconds; less when the running RPC ends earlier.
_MOST_S = 2.0
# Attempts after a lost connection; their pauses sum up to less than `_MOST_S`.
_RETRIES = 6


class Valkey(Redis):
    """A client whose commands and scripts fail as `mesh.stores.errors.Unavailable` when Valkey is unreachable.

    A command fails within 2 s, and before the RPC it serves (`mesh.stores.budget`), also when Valkey is frozen.
    A command whose answer was lost is sent again: what must not be done twice belongs in an idempotent script.
    `register_script` returns a script that is loaded again when Valkey has lost it.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command as redis-py does. Raise Unavailable after the retries."""
        try:
            async with asyncio.timeout(budget.seconds(_MOST_S)):
                with cancellable():
                    return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except (ConnectionError, TimeoutError, OSError) as error:
            raise Unavailable(f"Valkey is unreachable: {type(error).__name__}") from error

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline as redis-py does; its `execute` raises what commands raise."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            async with asyncio.timeout(budget.seconds(_MOST_S)):
                with cancellable():
                    return await super().execute(raise_on_error)
        except (ConnectionError, TimeoutError, OSError) as error:
            raise Unavailable(f"Valkey is unreachable: {type(error).__name__}") from error


class _PasswordFile(CredentialProvider):
    """The user and the password in a file, read anew for each connection so that it can be changed."""

    def __init__(self, user: str, path: Path) -> None:
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str, str]:
        """Return the user name and its password."""
        return self._user, self._path.read_text().strip()

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the same, without blocking the event loop."""
        return await asyncio.to_thread(self.get_credentials)


@asynccontextmanager
async def connect(
    url: str, user: str, password_file: Path, *, ca: Path | None = None, max_connections: int = 32
) -> AsyncIterator[Valkey]:
    """Open a client of the Valkey at `url`, e.g. "redis://127.0.0.1:6379/0", as ACL user `user`; answers are `str`.

    `rediss://` is TLS, with a server certificate signed by `ca`. `sentinel://host:port,host:port/name` asks the
    sentinels for the primary of that name at each new connection, so clients follow a failover.
    Closed at the end of the context. Connects with the first command, and again whenever the connection is lost.
    """
    options: dict[str, Any] = {
        "credential_provider": _PasswordFile(user, password_file),
        "client_name": user,
        "decode_responses": True,
        "health_check_interval": 10,
        "socket_timeout": _MOST_S,
        "socket_connect_timeout": _MOST_S,
        "socket_keepalive": True,
        "max_connections": max_connections,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), _RETRIES),
        "retry_on_error": [ConnectionError, TimeoutError, BusyLoadingError],
    }
    if url.startswith("rediss://"):
        options["ssl_ca_certs"] = None if ca is None else str(ca)
    async with AsyncExitStack() as stack:
        if url.startswith("sentinel://"):
            sentinel, name = _sentinel(url)
            for each in sentinel.sentinels:
                stack.push_async_callback(each.aclose)
            pool = SentinelConnectionPool(name, sentinel, **options)
            stack.push_async_callback(pool.disconnect)
            client = Valkey(connection_pool=pool)
        else:
            client = Valkey.from_url(url, **options)  # type: ignore[assignment]  # the stub forgets the subclass
        stack.push_async_callback(client.aclose)
        yield client


def _sentinel(url: str) -> tuple[Sentinel, str]:
    """Return the client of the sentinels, and the primary's name. Raise ValueError for a malformed address."""
    places, _, name = url.removeprefix("sentinel://").partition("/")
    hosts = [(host, int(port)) for host, _, port in (place.rpartition(":") for place in places.split(","))]
    if not name or not all(host for host, _ in hosts):
        raise ValueError(f"{url!r} should be sentinel://host:port,host:port/name")
    return Sentinel(hosts, socket_timeout=1.0, socket_connect_timeout=1.0), name
