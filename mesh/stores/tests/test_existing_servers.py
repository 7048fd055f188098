"""Stores that are not ours: several hosts, a failover, another authority, credentials in files."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from redis.asyncio import Redis

from mesh.bus import Unavailable as BusUnavailable
from mesh.bus import connect as connect_bus
from mesh.bus.bounds import Bounds
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.platform.child import Child, Command
from mesh.platform.components import nats, valkey
from mesh.process.config import ServiceConfig
from mesh.stores import postgres as postgres_store
from mesh.stores import valkey as valkey_store
from mesh.stores.errors import Unavailable
from mesh.testing import Platform
from mesh.testing.ports import free_port

pytestmark = pytest.mark.store

# What the streams may take together.
_BUS_BYTES = 256 * 2**20


def free(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@asynccontextmanager
async def running(name: str, folder: Path, *argv: str) -> AsyncIterator[Child]:
    child = Child(Command(name=name, argv=argv, log=folder / f"{name}.log", grace_s=5))
    child.start()
    try:
        yield child
    finally:
        await child.stop()


async def until_answers(port: int, within: float = 40) -> None:
    async with asyncio.timeout(within):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


# PostgreSQL


async def test_a_new_connection_goes_to_the_host_that_answers(migrated: Platform) -> None:
    (dead,) = free(1)
    port = migrated.postgres.conninfo.partition("port=")[2].split()[0]
    conninfo = f"host=127.0.0.1,127.0.0.1 port={dead},{port} dbname=octopus target_session_attrs=read-write"
    async with postgres_store.connect(conninfo, Identity(migrated.identity, "session")) as database:
        await database.ping()


@pytest.fixture
def by_password(migrated: Platform, tmp_path: Path) -> Iterator[Path]:
    """Lets `octopus_session` in by password; gives a file with it, as libpq wants it."""
    data = migrated.postgres.data
    usual = (data / "pg_hba.conf").read_text()
    (data / "pg_hba.conf").write_text(f"hostssl all octopus_session 127.0.0.1/32 scram-sha-256\n{usual}")
    migrated.postgres.reload()
    file = tmp_path / "pgpass"
    file.write_text("127.0.0.1:*:octopus:octopus_session:open sesame\n")
    file.chmod(0o600)
    yield file
    (data / "pg_hba.conf").write_text(usual)
    migrated.postgres.reload()


async def test_a_database_that_knows_no_certificates_takes_the_password_in_a_file(
    migrated: Platform, by_password: Path, tmp_path: Path
) -> None:
    await migrated.postgres.execute("ALTER ROLE octopus_session PASSWORD 'open sesame'")
    # Our own certificate and authority are of no use there.
    stranger = Identity(tmp_path / "elsewhere", "session")
    async with asyncio.timeout(10):
        while True:
            try:
                async with postgres_store.connect(
                    migrated.postgres.conninfo, stranger, ca=migrated.identity / "ca.pem", pass_file=by_password
                ) as database:
                    await database.ping()
            except Unavailable:
                # The server reads its rules a moment after it was told to.
                continue
            break
    with pytest.raises(psycopg.OperationalError, match="password"):
        await psycopg.AsyncConnection.connect(
            migrated.postgres.conninfo, user="octopus_session", sslmode="require", password="wrong"
        )


# Valkey


@pytest.fixture
def password(platform: Platform) -> Path:
    file = platform.config("session", ServiceConfig).valkey_password_file
    assert file is not None
    return file


@asynccontextmanager
async def tls_before(port: int, identity: Identity) -> AsyncIterator[int]:
    """A door that speaks TLS before a Valkey that does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def test_valkey_is_reached_by_tls_under_the_named_authority_only(
    platform: Platform, password: Path, tmp_path: Path
) -> None:
    theirs = Authority(tmp_path / "theirs", "somebody else")
    identity = theirs.issue_public("valkey", lifetime=timedelta(hours=1))
    inner = int(platform.valkey_url.rpartition(":")[2].partition("/")[0])
    async with tls_before(inner, identity) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        async with valkey_store.connect(url, "session", password, ca=identity.ca) as client:
            assert await client.ping()
        async with valkey_store.connect(url, "session", password, ca=platform.identity / "ca.pem") as client:
            with pytest.raises(Unavailable):
                await client.ping()


@pytest.mark.parametrize(
    "url", ["sentinel://", "sentinel://host:1", "sentinel://:1/octopus", "sentinel://host/octopus"]
)
async def test_an_address_of_sentinels_that_is_none_is_refused(password: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"sentinel|invalid literal"):
        async with valkey_store.connect(url, "session", password):
            pass


async def knows_all(sentinel: Redis) -> bool:
    found = await sentinel.sentinel_master("octopus")
    return isinstance(found, dict) and (found["num-other-sentinels"], found["num-slaves"]) == (2, 1)


async def test_clients_follow_the_sentinels_to_the_new_primary(tmp_path: Path, password: Path) -> None:
    primary, replica, *sentinels = free(5)
    program = str(valkey.program())
    user = f"--user session on >{password.read_text().strip()} ~session:* &session:* +@all"
    # A replica keeps what the primary sends first in a file, here and not where the tests were started.
    common = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    for port in sentinels:
        (tmp_path / f"sentinel-{port}.conf").write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor octopus 127.0.0.1 {primary} 2\n"
            "sentinel down-after-milliseconds octopus 1000\nsentinel failover-timeout octopus 5000\n"
        )
    acl = [*user.split(" ")]
    follow = ["--replicaof", "127.0.0.1", str(primary)]
    async with (
        running("primary", tmp_path, program, "--port", str(primary), *common, *acl) as first,
        running("replica", tmp_path, program, "--port", str(replica), *common, *acl, *follow),
        running("s1", tmp_path, program, str(tmp_path / f"sentinel-{sentinels[0]}.conf"), "--sentinel"),
        running("s2", tmp_path, program, str(tmp_path / f"sentinel-{sentinels[1]}.conf"), "--sentinel"),
        running("s3", tmp_path, program, str(tmp_path / f"sentinel-{sentinels[2]}.conf"), "--sentinel"),
    ):
        for port in (primary, replica, *sentinels):
            await until_answers(port)
        url = f"sentinel://{','.join(f'127.0.0.1:{port}' for port in sentinels)}/octopus"
        async with (
            valkey_store.connect(url, "session", password) as client,
            Redis(host="127.0.0.1", port=replica) as other,
        ):
            await client.set("session:t:key", "kept")
            async with asyncio.timeout(20):
                while await other.get("session:t:key") != b"kept":
                    await asyncio.sleep(0.05)
                # A sentinel that does not know the others, or the replica, would not fail over.
                async with Redis(host="127.0.0.1", port=sentinels[0]) as sentinel:
                    while not await knows_all(sentinel):
                        await asyncio.sleep(0.1)
            await first.stop()
            async with asyncio.timeout(30):
                while True:
                    try:
                        await client.set("session:t:key", "after")
                    except Unavailable:
                        continue
                    break
            assert await client.get("session:t:key") == "after"
            assert await other.get("session:t:key") == b"after"


# NATS


async def test_an_existing_nats_has_its_own_authority_and_a_password(platform: Platform, tmp_path: Path) -> None:
    port, dead = free(2)
    theirs = Authority(tmp_path / "theirs", "somebody else")
    server = theirs.issue_public("nats", lifetime=timedelta(hours=1))
    (tmp_path / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream: {{ store_dir: "{tmp_path / "data"}" }}\n'
        f'tls: {{ cert_file: "{server.cert}", key_file: "{server.key}" }}\n'
        'authorization: { user: "octopus", password: "open:sesame" }\n'
    )
    credentials = tmp_path / "credentials"
    credentials.write_text("octopus:open:sesame\n")
    own = Identity(platform.identity, "chat")
    url = f"tls://127.0.0.1:{dead},tls://127.0.0.1:{port}"
    async with running("nats", tmp_path, str(nats.program()), "-c", str(tmp_path / "nats.conf")):
        await until_answers(port)
        async with connect_bus(
            url,
            "chat",
            tls=lambda: own.client_context(server.ca),
            server_name=None,
            credentials_file=credentials,
            provisions=Bounds(_BUS_BYTES),
        ) as bus:
            assert await bus.kv("keys").put("jwks", b"{}") > 0
        with pytest.raises(BusUnavailable):
            # The mesh's authority did not sign it.
            async with connect_bus(url, "chat", tls=own.client_context, credentials_file=credentials, timeout=2):
                pass
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
