"""What the supervisor and the tests need to know about a server they run."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Protocol

from mesh.platform.child import Child, Command, describe_exit


class ComponentError(Exception):
    """A component cannot be prepared or started. The text says which, why, and what to do."""


class Component(Protocol):
    """A server that runs as a child process."""

    @property
    def name(self) -> str:
        """Return its name in the process table."""

    async def prepare(self) -> None:
        """Write its settings and, the first time, its data folder. Raise ComponentError."""

    def command(self) -> Command:
        """Return how to run it."""

    async def probe(self) -> None:
        """Return when it answers as it should; raise an exception that says what is wrong when it does not."""

    async def complete(self) -> None:
        """Do what can only be done while it answers, such as creating a database. Repeatable."""


async def until_ready(component: Component, child: Child, *, seconds: float = 30.0) -> None:
    """Wait until a started component answers.

    Raise ComponentError with its last words when it died or took too long.
    """
    wrong = "no answer"
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if child.exit_code is not None:
            raise ComponentError(
                f"{component.name} ended while starting ({describe_exit(child.exit_code)}); "
                f"{child.command.log} ends with:\n{child.last_words()}"
            )
        try:
            return await component.probe()
        except Exception as error:  # noqa: BLE001 - whatever a server that is half up makes its client raise
            wrong = str(error)
        await asyncio.sleep(0.05)
    raise ComponentError(
        f"{component.name} did not answer within {seconds:.0f} s: {wrong}. {child.command.log} ends with:\n"
        f"{child.last_words()}"
    )


def executable(wheel: str, name: str) -> Path:
    """Return a program that a wheel put beside our Python. Raise ComponentError when it is missing."""
    path = Path(sysconfig.get_path("scripts")) / name
    if path.is_file():
        return path
    if found := shutil.which(name, path=str(Path(sys.executable).parent)):
        return Path(found)
    raise missing(wheel, name)


def packaged(wheel: str, package: str, pattern: str) -> Path:
    """Return a program inside a wheel's package, without importing it. Raise ComponentError when it is missing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if found := next(Path(folder).glob(pattern), None):
            return found
    raise missing(wheel, pattern.rpartition("/")[2])


def missing(wheel: str, name: str) -> ComponentError:
    """Return the error for a program that should have come with a wheel."""
    try:
        version = importlib.metadata.version(wheel)
        what = f"the wheel {wheel} {version} is installed but has no {name} for this machine"
    except importlib.metadata.PackageNotFoundError:
        what = f"the wheel {wheel}, which brings {name}, is not installed"
    return ComponentError(f"{what}. Run `make install`; `octopus doctor` lists all that is needed")


async def get(port: int, path: str, *, timeout: float = 2.0) -> tuple[int, bytes]:
    """Ask a server on this machine over plain HTTP; return status and body. Raise OSError or TimeoutError."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        return int(head.split(b" ", 2)[1]), body
    except (IndexError, ValueError) as error:
        raise OSError(f"port {port} does not speak HTTP") from error
