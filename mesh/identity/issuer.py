"""The mesh's certificate authority as a process, for machines that `octopus up` does not run.

    octopus ca --folder /etc/octopus/identity --host control=10.77.0.1 --host nats=10.77.0.1 --host nats=10.77.0.2

Issues a leaf for every name and renews each at half of its life until SIGTERM. Give each machine `ca.pem` and the
folder of each program that runs there; processes detect renewed files. `authority/` stays where it is.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.identity.rotation import LOOK_SECONDS, Leaf, Rotation
from mesh.telemetry.logs import configure_logging

_log = structlog.get_logger(__name__)


def read_hosts(words: Sequence[str]) -> dict[str, list[str]]:
    """Read `nats=10.77.0.1` and the like: at which addresses each name is dialled. Raise ValueError."""
    hosts: dict[str, list[str]] = defaultdict(list)
    for word in words:
        name, separator, host = word.partition("=")
        if not separator or not host:
            raise ValueError(f"--host {word!r} should be NAME=ADDRESS, e.g. nats=10.77.0.1")
        names.check([name])
        hosts[name].append(host)
    return hosts


def leaves(authority: Authority, hosts: Mapping[str, Sequence[str]]) -> list[Leaf]:
    """Return a leaf for every name, usable while it is the authority's, valid, and names all of its hosts."""

    def leaf(name: str) -> Leaf:
        identity, dialled = Identity(authority.folder, name), hosts.get(name, ())
        return Leaf(
            identity,
            issue=lambda: authority.issue(name, hosts=dialled),
            usable=lambda: authority.holds(identity) and authority.names_hosts(identity, dialled),
        )

    return [leaf(name) for name in sorted(names.everybody())]


async def issue(folder: Path, hosts: Mapping[str, Sequence[str]], *, every: float = LOOK_SECONDS) -> None:
    """Keep the leaves in `folder` fresh until cancelled."""

    async def replaced(identity: Identity) -> None:
        _log.info("certificate issued", member=identity.name, expires_at=identity.expires_at.isoformat())

    await Rotation(leaves(Authority(folder), hosts), replaced).run(every)


async def _until_stopped(work: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    await asyncio.gather(work, return_exceptions=False)


async def _run(folder: Path, hosts: Mapping[str, Sequence[str]]) -> None:
    try:
        await _until_stopped(asyncio.ensure_future(issue(folder, hosts)))
    except asyncio.CancelledError:
        _log.info("stopped")


def main() -> None:
    """Run the authority."""
    parser = argparse.ArgumentParser(prog="octopus ca", description="Issue and renew the mesh's certificates.")
    parser.add_argument("--folder", type=Path, required=True, help="where they lie; made when it is new")
    parser.add_argument("--host", action="append", default=[], metavar="NAME=ADDRESS", help="where a server is dialled")
    given = parser.parse_args()
    try:
        hosts = read_hosts(given.host)
    except ValueError as error:
        parser.error(str(error))
    configure_logging("ca", "ca", "info")
    asyncio.run(_run(given.folder, hosts))


if __name__ == "__main__":
    main()
