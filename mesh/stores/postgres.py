"""PostgreSQL: one connection pool for a process, whose transactions are each limited to one tenant.

Every table has a row-level security policy on the setting `octopus.tenant`; `Database.tenant` sets it for one
transaction. A statement outside sees nothing.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import structlog
from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from mesh.identity.files import Identity
from mesh.stores import budget
from mesh.stores.cancellation import cancellable
from mesh.stores.errors import TooSlow, Unavailable, Unstorable

_log = structlog.get_logger(__name__)

EVERY_TENANT = "*"

_TENANT = re.compile(r"[a-z0-9-]{1,32}")
# How long a call waits for a connection before it fails as Unavailable, in seconds.
_WAIT_S = 4.0
# The pool doubles its pauses from one second on; after a short reconnect timeout the next call tries at once.
_RECONNECT_S = 1.5
_TRANSACTION = psycopg.pq.TransactionStatus

# The server cancels a slow statement itself; without an answer this many seconds later it is considered frozen.
_GRACE_S = 1.0
# The server's share of the time that the running RPC has left, so that it gives up before the connection is severed.
_SHARE = 0.9

# What the connection string does not say itself. With these, a machine that vanished is noticed within 11 s by a
# connection that is idle, and within 5 s by one that waits for an answer to what it has sent.
_TCP: Final = {
    "connect_timeout": 3,
    # Seconds, and how many probes.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # Milliseconds.
    "tcp_user_timeout": 5000,
}

Connection = AsyncConnection[tuple[Any, ...]]


class _Bounded(AsyncConnection[tuple[Any, ...]]):
    """A connection on which every wait has a limit: a frozen server neither closes it nor answers."""

    # The statement timeout, in seconds.
    most_s = 5.0

    async def wait(self, *args: Any, **options: Any) -> Any:
        """Wait as psycopg does, a little longer than the statement timeout and less than the running RPC has left."""
        timer = asyncio.get_running_loop().call_later(budget.seconds(self.most_s + _GRACE_S), self._sever)
        try:
            return await super().wait(*args, **options)
        finally:
            timer.cancel()

    def _sever(self) -> None:
        # The wait ends with the connection's own error. A cancellation would wait for the server.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)


class Database:
    """Transactions on one pool. Made by `connect`."""

    def __init__(
        self, pool: AsyncConnectionPool[Connection], dedicated: Callable[[], Any], *, statement_timeout_s: float
    ) -> None:
        self._pool = pool
        self._dedicated = dedicated
        self._statement_timeout_s = statement_timeout_s

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncIterator[Connection]:
        """Open a transaction on one tenant's rows: committed at the end, rolled back by an exception.

        Raise ValueError for what cannot be a tenant; Unavailable when the database cannot be reached within 4 s, is
        lost in between or answers nothing, TooSlow when a statement passes its limit: both come before the running RPC
        ends. Unstorable for a text with a NUL; psycopg's other errors as they are.
        """
        if not _TENANT.fullmatch(tenant_id):
            raise ValueError(f"not a tenant id: {tenant_id[:40]!r}; it has 1 to 32 of the characters a-z, 0-9 and -")
        async with self._transaction("BEGIN", tenant_id) as conn:
            yield conn

    @asynccontextmanager
    async def every_tenant(self) -> AsyncIterator[Connection]:
        """Open a read-only transaction over all tenants, on the tables that have a policy for it: for background jobs.

        Raise what `tenant` raises.
        """
        async with self._transaction("BEGIN READ ONLY", EVERY_TENANT) as conn:
            yield conn

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """Open a transaction on rows that belong to the platform and to no shop: those of the tenant "*".

        Raise what `tenant` raises.
        """
        async with self._transaction("BEGIN", EVERY_TENANT) as conn:
            yield conn

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[Connection]:
        """Open a connection outside the pool, in autocommit, without statement timeout and without a tenant.

        To LISTEN and to hold a lock. Raise what `tenant` raises.
        """
        with _translated():
            conn: Connection = await self._dedicated()
            try:
                yield conn
            finally:
                await conn.close()

    async def ping(self) -> None:
        """Return when the database answers. Raise Unavailable."""
        async with self.every_tenant():
            pass

    @asynccontextmanager
    async def _transaction(self, begin: LiteralString, tenant: str) -> AsyncIterator[Connection]:
        guard = cancellable()
        with _translated():
            conn = await self._begin(begin, tenant)
            try:
                # A cancelled task does not commit.
                with guard:
                    yield conn
            except BaseException:
                await _roll_back(conn)
                raise
            else:
                await conn.execute("COMMIT")
            finally:
                await self._pool.putconn(conn)

    async def _begin(self, begin: LiteralString, tenant: str) -> Connection:
        """Return a connection with an open transaction. One that was lost while pooled is replaced."""
        deadline = asyncio.get_running_loop().time() + budget.seconds(_WAIT_S)
        # One round trip for all. The simple protocol takes no parameters, and the tenant was checked.
        statement = sql.SQL(begin + "; SELECT set_config('octopus.tenant', {}, true)").format(sql.Literal(tenant))
        limit = budget.seconds(self._statement_timeout_s)
        if limit < self._statement_timeout_s:
            # The server cancels the statement before the caller times out, which keeps the connection.
            statement += sql.SQL(", set_config('statement_timeout', {}, true)").format(
                sql.Literal(f"{limit * _SHARE * 1000:.0f}ms")
            )
        while True:
            conn = await self._pool.getconn(timeout=max(0.1, deadline - asyncio.get_running_loop().time()))
            try:
                await conn.execute(statement)
            except psycopg.OperationalError:
                await self._pool.putconn(conn)
                if asyncio.get_running_loop().time() > deadline:
                    raise
            except BaseException:
                await _roll_back(conn)
                await self._pool.putconn(conn)
                raise
            else:
                return conn


@asynccontextmanager
async def connect(
    conninfo: str,
    identity: Identity,
    *,
    statement_timeout_s: float = 5.0,
    max_connections: int = 10,
    vectors: bool = False,
    ca: Path | None = None,
    pass_file: Path | None = None,
) -> AsyncIterator[Database]:
    """Open the database at `conninfo`, e.g. "host=127.0.0.1 port=5432 dbname=octopus"; close it at the end.

    Its role is that of the identity, authenticated by the certificate, or by the password in `pass_file` (as libpq's
    `.pgpass`); the files are read anew for each connection. `ca` signed the server's certificate, unless the mesh's
    authority did. Of several hosts, each new connection goes to the first that answers and fits `target_session_attrs`.
    Those that vanish without a word are noticed as `_TCP` says; what the connection string says of that goes first.
    `vectors` registers pgvector's types. Returns without waiting for the database: a process may start before it, and
    a call fails with Unavailable while it is unreachable.
    """
    parameters: dict[str, Any] = {
        "application_name": identity.name,
        **{key: value for key, value in _TCP.items() if key not in conninfo_to_dict(conninfo)},
        **_credentials(identity, ca, pass_file),
    }

    async def configure(conn: Connection) -> None:
        if isinstance(conn, _Bounded):
            conn.most_s = statement_timeout_s
        if vectors:
            await register_vector_async(conn)

    async def dedicated() -> Connection:
        return await AsyncConnection.connect(conninfo, autocommit=True, **parameters)

    limits = f"-c statement_timeout={int(statement_timeout_s * 1000)} -c idle_in_transaction_session_timeout=30000"
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        conninfo,
        connection_class=_Bounded,
        # The transactions are begun by hand, in one round trip with their tenant.
        kwargs={**parameters, "options": limits, "autocommit": True},
        configure=configure,
        min_size=1,
        max_size=max_connections,
        timeout=_WAIT_S,
        reconnect_timeout=_RECONNECT_S,
        max_idle=300,
        # Below the life of a certificate, so that connections follow its rotation.
        max_lifetime=1800,
        name=identity.name,
        open=False,
    )
    await pool.open()
    try:
        yield Database(pool, dedicated, statement_timeout_s=statement_timeout_s)
    finally:
        await pool.close()


def _credentials(identity: Identity, ca: Path | None, pass_file: Path | None) -> dict[str, str]:
    given = identity.libpq()
    if pass_file is not None:
        # libpq would send a certificate that this server does not trust.
        given = {key: value for key, value in given.items() if key not in ("sslcert", "sslkey")}
        given |= {"passfile": str(pass_file), "sslcert": "", "sslkey": ""}
    return given if ca is None else {**given, "sslrootcert": str(ca)}


class _translated:  # noqa: N801  # used like a function
    """Map psycopg's errors to those of this package, except for programming errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, psycopg.errors.QueryCanceled):
            raise TooSlow("a statement took longer than its limit and was cancelled") from error
        if isinstance(error, psycopg.OperationalError):
            raise Unavailable(f"PostgreSQL is unreachable or aborted the transaction: {_cause(error)}") from error
        if isinstance(error, psycopg.InterfaceError) and "closed" in str(error):
            raise Unavailable("the connection to PostgreSQL was lost") from error
        # Raised by psycopg before anything is sent; errors from the server have a state.
        if isinstance(error, psycopg.DataError) and error.sqlstate is None and "NUL" in str(error):
            raise Unstorable("a text holds a NUL character, which cannot be stored; remove it") from error


def _cause(error: psycopg.Error) -> str:
    """Return the kind of error; the server's own text may quote values of rows."""
    return error.sqlstate or type(error).__name__


async def _roll_back(conn: Connection) -> None:
    if conn.closed or conn.info.transaction_status == _TRANSACTION.IDLE:
        return
    with suppress(psycopg.Error):
        await conn.execute("ROLLBACK")
