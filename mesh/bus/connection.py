"""Connect a member to NATS, and reconnect until it is closed."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from mesh.bus.bounds import Bounds
from mesh.bus.bus import Bus
from mesh.bus.client import Client
from mesh.bus.consume import DEADLINE_S
from mesh.bus.errors import Unavailable
from mesh.bus.provision import keep_provisioned

_log = structlog.get_logger(__name__)

# The name on the certificate of every NATS server, whatever address it is reached at.
SERVER_NAME = "nats.octopus.local"

# A server that does not answer two pings is considered lost, within three intervals.
_PING_INTERVAL_S = 2
_DIAL_WITHIN_S = 2
_RECONNECT_WAIT_S = 0.25
_STREAMS_WITHIN_S = 60.0


@asynccontextmanager
async def connect(
    url: str,
    name: str,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
    server_name: str | None = SERVER_NAME,
    credentials_file: Path | None = None,
    replicas: int = 1,
    timeout: float = 10.0,
    provisions: Bounds | None = None,
    handler_deadline: float = DEADLINE_S,
) -> AsyncIterator[Bus]:
    """Open a bus on the NATS servers at `url`, e.g. `tls://127.0.0.1:4222`, for the member `name`; close it on exit.

    `url` names several servers of a cluster by commas, tried in this order. `server_name` is what their certificates
    must contain; None checks the host of each. `credentials_file` holds `user:password`, read now, for servers that do
    not identify clients by certificate. `replicas` is the number of servers that store each stream.

    `tls` makes the context that presents the member's certificate (`Identity.client_context`); it is called for each
    new connection. With `provisions`, which only the control process may do, streams, buckets and consumers are
    created within these bounds and kept up to date; every other member waits until they exist.
    `handler_deadline` is how many seconds a handler of a consumer may take unless that consumer sets another limit.
    Raise Unavailable when the server cannot be reached within `timeout` seconds, or has no streams for a minute;
    later, a lost connection is retried without limit.
    """
    client = Client(tls)
    bus = Bus(client, handler_deadline=handler_deadline)
    problems: list[str] = []
    reconnected = asyncio.Event()
    keeping: asyncio.Task[None] | None = None

    async def on_error(error: Exception) -> None:
        problems.append(str(error) or repr(error))
        del problems[:-1]
        bus.failed(problems[-1])
        _log.warning("bus", error=str(error) or repr(error))

    async def on_lost() -> None:
        if not client.is_closed:
            _log.warning("bus connection lost")
        bus.lost()

    async def on_back() -> None:
        _log.info("bus connection back")
        bus.back()
        reconnected.set()

    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                servers=url.split(","),
                **_credentials(credentials_file),
                name=name,
                tls_hostname=server_name if tls else None,
                inbox_prefix=f"_INBOX.{name}",
                error_cb=on_error,
                disconnected_cb=on_lost,
                reconnected_cb=on_back,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # fractions of seconds work too
                connect_timeout=_DIAL_WITHIN_S,
                # In the order of the settings: the nearest first.
                dont_randomize=True,
                ping_interval=_PING_INTERVAL_S,
                max_outstanding_pings=2,
                drain_timeout=5,
            )
            await bus.start()
    except TimeoutError as error:
        await client.close()
        why = f": {problems[-1]}" if problems else ""
        raise Unavailable(f"NATS at {url} cannot be reached within {timeout} s{why}") from error
    try:
        if provisions is not None:
            done = asyncio.Event()
            keeping = asyncio.create_task(
                keep_provisioned(client, provisions, replicas, reconnected, done), name="keep provisioned"
            )
            await done.wait()
        else:
            await _provisioned(bus)
        yield bus
    finally:
        if keeping is not None:
            keeping.cancel()
        await client.close()


def _credentials(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    user, _, password = file.read_text(encoding="utf-8").strip().partition(":")
    return {"user": user, "password": password}


async def _provisioned(bus: Bus) -> None:
    """Return when the control process has created the streams."""
    said = False
    try:
        async with asyncio.timeout(_STREAMS_WITHIN_S):
            while not await bus.is_provisioned():
                if not said:
                    _log.info("waiting for the control process to create the streams")
                    said = True
                await asyncio.sleep(_RECONNECT_WAIT_S)
    except TimeoutError as error:
        raise Unavailable(
            f"NATS has no streams after {_STREAMS_WITHIN_S:.0f} s; the control process creates them: start it"
        ) from error
