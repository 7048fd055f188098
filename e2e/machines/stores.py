"""PostgreSQL with two standbys, Valkey with sentinels, and a NATS cluster: one server of each on each machine.

The settings are those of a single machine, and what several need on top: that is what an operator would write.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import psycopg
from psycopg.conninfo import make_conninfo
from redis.asyncio import Redis

from e2e.machines.network import NAMES, Network
from mesh.atomic_file import write
from mesh.bus.streams import LOG
from mesh.identity.files import Identity
from mesh.platform.child import Child, Command
from mesh.platform.components import valkey
from mesh.platform.components.component import until_ready
from mesh.platform.components.nats import Nats
from mesh.platform.components.nats import program as nats_program
from mesh.platform.components.postgres import DATABASE, OWNER, UNPRIVILEGED, Postgres, unpack
from mesh.platform.folder import Folder
from mesh.platform.migrations import migrate

POSTGRES, VALKEY, SENTINEL, NATS, ROUTES, MONITOR = 5432, 6379, 26379, 4222, 6222, 8222
# Whom the sentinels watch.
PRIMARY: Final = "octopus"


class Bus:
    """The NATS cluster."""

    def __init__(self, network: Network, folders: Mapping[str, Folder]) -> None:
        self._network = network
        self._folders = folders
        self.urls = {name: f"tls://{network.address(name)}:{NATS}" for name in NAMES}

    async def prepare(self, machine: str) -> Command:
        """Write a server's settings and return how to run it."""
        folder, network = self._folders[machine], self._network
        usual = Nats(folder, NATS, MONITOR)
        await usual.prepare()
        identity = usual.identity
        cluster = {
            "name": "octopus",
            "listen": f"0.0.0.0:{ROUTES}",
            "cluster_advertise": f"{network.address(machine)}:{ROUTES}",
            "routes": [f"tls://{network.address(other)}:{ROUTES}" for other in NAMES],
            "ping_interval": "1s",
            "tls": {
                "cert_file": str(identity.cert),
                "key_file": str(identity.key),
                "ca_file": str(identity.ca),
                "verify": True,
                "timeout": 5,
            },
        }
        path = folder.config / "nats.conf"
        text = path.read_text()
        for old, new in (
            ('"server_name": "octopus",', f'"server_name": "{machine}",\n  "cluster": {json.dumps(cluster)},'),
            (f'"127.0.0.1:{NATS}"', f'"0.0.0.0:{NATS}",\n  "client_advertise": "{network.address(machine)}:{NATS}"'),
            (f'"127.0.0.1:{MONITOR}"', f'"0.0.0.0:{MONITOR}"'),
        ):
            assert text.count(old) == 1
            text = text.replace(old, new)
        write(path, text)
        return Command(
            name=f"nats-{machine}",
            argv=network.on(machine, str(nats_program()), "-c", str(path)),
            log=folder.log / "nats.log",
        )

    async def is_healthy(self, machine: str) -> bool:
        """Say whether a server is up, and current in all of its streams."""
        try:
            async with httpx.AsyncClient(timeout=2) as http:
                return (await http.get(f"{self._monitor(machine)}/healthz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def leader_of_log(self, ask: str) -> str | None:
        """Return the server through which each message goes, as a machine sees it; None while there is none."""
        async with httpx.AsyncClient(timeout=2) as http:
            found = (await http.get(f"{self._monitor(ask)}/jsz?streams=true&config=true")).json()
        for account in found.get("account_details") or ():
            for stream in account["stream_detail"]:
                if stream["name"] == LOG:
                    assert stream["config"]["num_replicas"] == len(NAMES)
                    return (stream.get("cluster") or {}).get("leader")
        return None

    def _monitor(self, machine: str) -> str:
        return f"http://{self._network.address(machine)}:{MONITOR}"


class Database:
    """PostgreSQL: a commit waits until one of the two standbys has it on its disk."""

    def __init__(self, network: Network, folders: Mapping[str, Folder]) -> None:
        self._network = network
        self._folders = folders
        self.uid = UNPRIVILEGED
        hosts = ",".join(network.address(name) for name in NAMES)
        self.conninfo = f"host={hosts} port={POSTGRES} dbname={DATABASE} target_session_attrs=read-write"
        self._binaries = unpack(self.uid)

    def data(self, machine: str) -> Path:
        """Return a server's data folder."""
        return self._folders[machine].data("postgres")

    async def make(self, port: int) -> None:
        """Make the database on the first machine, before its server listens to others, and copies for the others."""
        first = self._folders[NAMES[0]]
        alone = Postgres(first, port)
        await alone.prepare()
        # What was written for one server alone, nobody could follow.
        with (alone.data / "postgresql.conf").open("a") as settings:
            settings.write("wal_level = replica\nmax_wal_senders = 10\n")
        child = Child(alone.command())
        child.start()
        try:
            await until_ready(alone, child)
            await alone.complete()
            await migrate(alone.owner_url())
        finally:
            await child.stop()
        for machine in NAMES[1:]:
            await asyncio.to_thread(subprocess.run, ["cp", "-a", str(alone.data), str(self.data(machine))], check=True)
            self.follow(machine)
        for machine in NAMES:
            self.configure(machine)

    def configure(self, machine: str) -> None:
        """Write a server's settings: the same on each, whether it is the primary or follows it."""
        folder, data = self._folders[machine], self.data(machine)
        operator = Identity(folder.identity, "operator")
        self._own(data / "operator.crt", operator.cert.read_text())
        self._own(data / "operator.key", operator.key.read_text())
        follow = self._as_owner(operator.folder, data) | {"target_session_attrs": "read-write", "connect_timeout": "3"}
        follow |= {"host": ",".join(self._network.address(name) for name in NAMES), "port": str(POSTGRES)}
        follow |= {"tcp_user_timeout": "3000"}
        settings = {
            "port": str(POSTGRES),
            "listen_addresses": "'*'",
            "cluster_name": f"'{machine}'",
            "wal_level": "replica",
            "max_wal_senders": "10",
            "wal_keep_size": "'256MB'",
            "wal_sender_timeout": "'5s'",
            "wal_receiver_timeout": "'5s'",
            "wal_retrieve_retry_interval": "'1s'",
            "synchronous_standby_names": f"'ANY 1 ({', '.join(NAMES)})'",
            "primary_conninfo": "'" + make_conninfo("", **follow).replace("'", "''") + "'",
        }
        usual = data / "usual.conf"
        if not usual.exists():
            self._own(usual, (data / "postgresql.conf").read_text())
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
        self._own(data / "postgresql.conf", usual.read_text() + lines)
        network = f"{self._network.subnet}.0/24"
        self._own(
            data / "pg_hba.conf",
            f"hostssl all all {network} cert map=octopus\nhostssl replication {OWNER} {network} cert map=octopus\n",
        )

    def follow(self, machine: str) -> None:
        """Let a server begin as a standby."""
        self._own(self.data(machine) / "standby.signal", "")

    def rewind(self, machine: str, primary: str) -> None:
        """Make the data of a server that was the primary those of a standby of another one."""
        folder, data = self._folders[machine], self.data(machine)
        source = self._as_owner(folder.identity, data) | {
            "host": self._network.address(primary), "port": str(POSTGRES), "dbname": DATABASE
        }  # fmt: skip
        argv = (
            str(self._binaries / "pg_rewind"), "--target-pgdata", str(data),
            "--source-server", make_conninfo("", **source),
        )  # fmt: skip
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self._binaries.parent / "lib"), "HOME": str(data)}
        done = subprocess.run(
            self._network.on(machine, *self._unprivileged(), *argv),
            env=environment, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        # The settings came along.
        self.configure(machine)
        self.follow(machine)

    def command(self, machine: str) -> Command:
        """Return how to run a server."""
        data = self.data(machine)
        return Command(
            name=f"postgres-{machine}",
            argv=self._network.on(machine, *self._unprivileged(), str(self._binaries / "postgres"), "-D", str(data)),
            log=self._folders[machine].log / "postgres.log",
            env={"LD_LIBRARY_PATH": str(self._binaries.parent / "lib"), "HOME": str(data)},
        )

    async def ask(self, machine: str, query: str) -> object:
        """Return the one value that a query has on a machine."""
        operator = Identity(self._folders[machine].identity, "operator")
        where = {"host": self._network.address(machine), "port": str(POSTGRES), "dbname": DATABASE}
        conninfo = make_conninfo("", **operator.libpq() | where | {"user": OWNER, "connect_timeout": "2"})
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            row = await (await connection.execute(query.encode())).fetchone()
        return None if row is None else row[0]

    async def followers(self, primary: str) -> set[str]:
        """Return which servers follow the primary."""
        names = await self.ask(
            primary, "SELECT coalesce(string_agg(application_name, ','), '') FROM pg_stat_replication "
            "WHERE state = 'streaming' AND sync_state = 'quorum'"
        )  # fmt: skip
        return set(str(names).split(",")) - {""}

    @staticmethod
    def _as_owner(identity: Path, data: Path) -> dict[str, str]:
        return {
            **Identity(identity, "operator").libpq(),
            "user": OWNER,
            "sslrootcert": str(data / "ca.crt"),
            "sslcert": str(data / "operator.crt"),
            "sslkey": str(data / "operator.key"),
        }

    def _unprivileged(self) -> tuple[str, ...]:
        # It may not be root; and it ends with us, which a change of user would undo.
        who = (f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups")
        return ("setpriv", *who, "--pdeathsig", "INT")

    def _own(self, path: Path, text: str) -> None:
        write(path, text, mode=0o600)
        os.chown(path, self.uid, self.uid)


class LiveState:
    """Valkey: a primary, two replicas, and a sentinel beside each."""

    def __init__(self, network: Network, folders: Mapping[str, Folder]) -> None:
        self._network = network
        self._folders = folders
        self._password = valkey.Valkey(folders[NAMES[0]], VALKEY).password_file("operator").read_text()
        sentinels = ",".join(f"{network.address(name)}:{SENTINEL}" for name in NAMES)
        self.url = f"sentinel://{sentinels}/{PRIMARY}"

    async def prepare(self, machine: str) -> list[Command]:
        """Write the settings of a server and its sentinel and return how to run them."""
        folder, address, first = self._folders[machine], self._network.address(machine), self._network.address(NAMES[0])
        await valkey.Valkey(folder, VALKEY).prepare()
        more = [
            "protected-mode no", "masteruser operator", f"masterauth {self._password}",
            f"replica-announce-ip {address}", "repl-timeout 10",
            *([] if machine == NAMES[0] else [f"replicaof {first} {VALKEY}"]),
        ]  # fmt: skip
        settings = (folder.config / "valkey.conf").read_text().replace("bind 127.0.0.1", "bind 0.0.0.0")
        write(folder.config / "valkey.conf", settings + "\n".join(more) + "\n", mode=0o600)
        data = folder.data("sentinel")
        data.mkdir(parents=True, exist_ok=True)
        sentinel = [
            f"port {SENTINEL}", "bind 0.0.0.0", "protected-mode no", f"dir {data}",
            f"sentinel announce-ip {address}",
            f"sentinel monitor {PRIMARY} {first} {VALKEY} 2",
            f"sentinel auth-user {PRIMARY} operator", f"sentinel auth-pass {PRIMARY} {self._password}",
            f"sentinel down-after-milliseconds {PRIMARY} 2000", f"sentinel failover-timeout {PRIMARY} 6000",
        ]  # fmt: skip
        write(folder.config / "sentinel.conf", "\n".join(sentinel) + "\n", mode=0o600)
        program = str(valkey.program())
        return [
            Command(
                name=f"{kind}-{machine}",
                argv=self._network.on(machine, program, str(folder.config / f"{kind}.conf"), *arguments),
                log=folder.log / f"{kind}.log",
            )
            for kind, arguments in (("valkey", ()), ("sentinel", ("--sentinel",)))
        ]

    async def replicas(self, machine: str) -> int:
        """Return how many replicas follow a server; 0 as well when it is none that is followed."""
        async with Redis(
            host=self._network.address(machine), port=VALKEY, username="operator", password=self._password,
            socket_timeout=2, socket_connect_timeout=2, decode_responses=True,
        ) as client:  # fmt: skip
            found = await client.info("replication")
        return sum(
            found[key].get("state") == "online" for key in found if key.startswith("slave") and key[5:].isdigit()
        )

    async def primary(self, ask: str) -> str:
        """Return the machine that has the primary, as another one's sentinel knows."""
        address = self._network.address(ask)
        async with Redis(host=address, port=SENTINEL, socket_timeout=2, decode_responses=True) as sentinel:
            found = await sentinel.sentinel_get_master_addr_by_name(PRIMARY)
        assert isinstance(found, (list, tuple))
        host = found[0]
        return next(name for name in NAMES if self._network.address(name) == host)


def share_secrets(folders: Mapping[str, Folder]) -> None:
    """Give each machine the passwords and keys of the first."""
    for machine in NAMES[1:]:
        shutil.copytree(folders[NAMES[0]].secrets, folders[machine].secrets, dirs_exist_ok=True)
