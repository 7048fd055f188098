"""The components as the platform runs them: who is let in, what they may do, and what survives a kill."""

import asyncio
import contextlib
import json
import ssl
import struct

import nats
import nats.errors
import psycopg
import pytest
import redis.exceptions
from cryptography import x509
from nats.aio.client import Client
from redis.asyncio import Redis

from mesh.bus import Unavailable
from mesh.bus.tests.members import member
from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.platform.components.nats import inbox, rights
from mesh.testing import Platform

pytestmark = pytest.mark.store


def as_member(platform: Platform, name: str) -> dict[str, str]:
    return Identity(platform.identity, name).libpq()


async def database(platform: Platform, **parameters: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(platform.postgres.conninfo, connect_timeout=5, **parameters)  # type: ignore[arg-type]


async def test_a_service_is_its_role_by_certificate(migrated: Platform) -> None:
    async with await database(migrated, **as_member(migrated, "session")) as connection:
        cursor = await connection.execute(
            "SELECT current_user, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
        )
        assert await cursor.fetchone() == ("octopus_session", True)


async def test_a_service_cannot_be_another_role(migrated: Platform) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        await database(migrated, **{**as_member(migrated, "session"), "user": "octopus_user"})


async def test_nobody_enters_the_database_without_certificate(migrated: Platform) -> None:
    with pytest.raises(psycopg.OperationalError):
        await database(migrated, user="octopus_session", sslmode="require")
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        await database(migrated, user="octopus_session", sslmode="disable")


async def test_a_service_owns_nothing_and_makes_no_tables(migrated: Platform) -> None:
    async with await database(migrated, **as_member(migrated, "archive")) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("CREATE TABLE mine (id int)")


async def test_a_program_whose_manifest_names_no_database_gets_none(migrated: Platform) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        await database(migrated, **as_member(migrated, "chat"))


async def test_vectors_are_there(migrated: Platform) -> None:
    assert await migrated.postgres.execute("SELECT '[1,2]'::vector <-> '[1,3]'::vector") == [(1.0,)]


async def test_a_killed_database_keeps_what_was_committed(migrated: Platform) -> None:
    await migrated.postgres.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS number")
    await migrated.postgres.kill()
    await migrated.postgres.start()
    assert await migrated.postgres.execute("SELECT number FROM kept") == [(7,)]
    await migrated.postgres.execute("DROP TABLE kept")


async def test_the_database_takes_a_new_certificate_without_dropping_connections(migrated: Platform) -> None:
    async with await database(migrated, **as_member(migrated, "session")) as connection:
        newest = migrated.authority.issue("postgres").certificate().serial_number
        assert await serial_of_the_database(migrated) != newest
        await migrated.postgres.install_certificate()
        async with asyncio.timeout(20):
            while await serial_of_the_database(migrated) != newest:
                pass
        await connection.execute("SELECT 1")


async def serial_of_the_database(platform: Platform) -> int:
    """Which certificate a new connection is shown."""
    where = psycopg.conninfo.conninfo_to_dict(platform.postgres.conninfo)
    reader, writer = await asyncio.open_connection(str(where["host"]), int(str(where["port"])))
    # PostgreSQL's SSLRequest: its length and its code; S is for yes.
    writer.write(struct.pack("!ii", 8, 80877103))
    assert await reader.readexactly(1) == b"S"
    context = Identity(platform.identity, "session").client_context()
    await writer.start_tls(context, server_hostname="postgres.octopus.local")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


def live_state(platform: Platform, name: str, password: str | None = None) -> Redis:
    secret = password or (platform.folder.secrets / f"valkey-{name}").read_text()
    return Redis.from_url(platform.valkey_url, username=name, password=secret)


async def test_a_service_keeps_to_its_own_keys(platform: Platform) -> None:
    async with live_state(platform, "session") as client:
        await client.set("session:qingshan:x", "1")
        assert await client.eval("return redis.call('GET', KEYS[1])", 1, "session:qingshan:x") == b"1"
        with pytest.raises(redis.exceptions.NoPermissionError):
            await client.get("chat:qingshan:x")
        with pytest.raises(redis.exceptions.ResponseError):
            await client.eval("return redis.call('GET', 'chat:qingshan:x')", 0)
        with pytest.raises(redis.exceptions.NoPermissionError):
            await client.flushall()


async def test_nobody_enters_valkey_without_password(platform: Platform) -> None:
    async with Redis.from_url(platform.valkey_url) as client:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await client.ping()
    async with live_state(platform, "session", password="guess") as client:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await client.ping()


async def test_valkey_keeps_its_state_over_a_restart_and_forgets_when_wiped(platform: Platform) -> None:
    async with live_state(platform, "chat") as client:
        await client.set("chat:kept", "1")
    await platform.valkey.restart()
    async with live_state(platform, "chat") as client:
        assert await client.get("chat:kept") == b"1"
        await platform.valkey.wipe()
        assert await client.get("chat:kept") is None


async def bus(platform: Platform, name: str, refusals: list[str] | None = None) -> Client:
    async def note(error: Exception) -> None:
        if refusals is not None:
            refusals.append(str(error))

    return await nats.connect(
        platform.nats_url,
        tls=Identity(platform.identity, name).client_context(),
        inbox_prefix=inbox(name).encode(),
        error_cb=note,
    )


async def test_chat_writes_the_log_and_bot_reads_it(platform: Platform) -> None:
    await platform.nats.wipe()
    chat, bot = await bus(platform, "chat"), await bus(platform, "bot")
    acknowledged = await chat.jetstream().publish("log.qingshan.1", b"hello")
    pulled = await bot.subscribe(bot.new_inbox())
    await bot.publish("$JS.API.CONSUMER.MSG.NEXT.LOG.bot", b"1", reply=pulled.subject)
    message = await pulled.next_msg(timeout=5)
    assert message.data == b"hello"
    await bot.request(message.reply, b"+ACK", timeout=5)
    direct = await chat.request("$JS.API.DIRECT.GET.LOG", json.dumps({"seq": acknowledged.seq}).encode(), timeout=5)
    assert direct.data == b"hello"
    await chat.close()
    await bot.close()


def test_rights_are_of_members() -> None:
    assert set(rights()) < names.members()


async def test_bot_may_not_write_the_log(platform: Platform) -> None:
    await platform.nats.wipe()
    chat, refusals = await bus(platform, "chat"), list[str]()
    bot = await bus(platform, "bot", refusals)
    with pytest.raises(nats.errors.TimeoutError):
        await bot.jetstream().publish("log.qingshan.1", b"forged", timeout=0.5)
    assert any("permissions violation" in refusal.lower() for refusal in refusals)
    assert json.loads((await chat.request("$JS.API.STREAM.INFO.LOG", b"", timeout=5)).data)["state"]["messages"] == 0
    await chat.close()
    await bot.close()


async def test_nobody_listens_to_the_replies_of_another(platform: Platform) -> None:
    refusals: list[str] = []
    bot = await bus(platform, "bot", refusals)
    await bot.subscribe(f"{inbox('chat')}.>")
    await bot.subscribe("live.>")
    # The client is told by its error callback, a little later.
    async with asyncio.timeout(30):
        while len(refusals) < 2:
            await asyncio.sleep(0.01)
    await bot.close()


async def test_only_user_writes_the_keys_and_everyone_reads_them(platform: Platform) -> None:
    await platform.nats.wipe()
    async with member(platform, "user") as user, member(platform, "chat") as chat:
        await user.kv("keys").put("jwks", b"{}")
        async with contextlib.aclosing(chat.kv("keys").watch()) as seen:
            first = await anext(seen)
            assert first is not None
            assert first.value == b"{}"
        with pytest.raises(Unavailable):
            await chat.kv("keys").put("jwks", b"forged", timeout=0.5)
        assert (await chat.kv("keys").get("jwks")) == first


async def test_an_instance_registers_under_its_own_service_only(platform: Platform) -> None:
    await platform.nats.wipe()
    async with member(platform, "bridge") as bridge:
        await bridge.kv("registry").put("bridge.1", b"here")
        with pytest.raises(Unavailable):
            await bridge.kv("registry").put("chat.1", b"forged", timeout=0.5)
        assert [each.key for each in await bridge.kv("registry").entries()] == ["bridge.1"]


async def test_a_stranger_does_not_enter_the_bus(platform: Platform) -> None:
    authority = Authority(platform.folder.root / "foreign")
    stranger = authority.issue("chat").client_context()
    stranger.load_verify_locations(platform.identity / "ca.pem")
    with pytest.raises((nats.errors.Error, OSError, ssl.SSLError)):
        await nats.connect(platform.nats_url, tls=stranger, allow_reconnect=False, connect_timeout=2)


async def test_the_bus_takes_a_new_certificate_without_dropping_connections(platform: Platform) -> None:
    chat = await bus(platform, "chat")
    before = Identity(platform.identity, "nats").certificate().serial_number
    platform.authority.issue("nats")
    platform.nats.reload()
    async with asyncio.timeout(20):
        while await served_serial(platform) == before:
            pass
    assert chat.is_connected
    assert chat.stats["reconnects"] == 0
    await chat.flush()
    await chat.close()


async def served_serial(platform: Platform) -> int:
    client = await bus(platform, "operator")
    transport = client._transport  # only the connection knows whom it talks to
    encrypted = transport._io_writer.get_extra_info("ssl_object")  # type: ignore[union-attr]
    await client.close()
    return x509.load_der_x509_certificate(encrypted.getpeercert(binary_form=True)).serial_number


async def test_a_killed_bus_keeps_what_it_acknowledged(platform: Platform) -> None:
    await platform.nats.wipe()
    chat = await bus(platform, "chat")
    for number in range(100):
        await chat.jetstream().publish("log.qingshan.1", str(number).encode())
    await platform.nats.kill()
    await platform.nats.start()
    await chat.close()
    again = await bus(platform, "chat")
    assert json.loads((await again.request("$JS.API.STREAM.INFO.LOG", b"", timeout=5)).data)["state"]["messages"] == 100
    await again.close()
