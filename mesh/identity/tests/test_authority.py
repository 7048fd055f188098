"""Certificates: what stands in them, who is let in with them, and that replacing them hurts nobody."""

import asyncio
import ssl
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mesh.identity.authority import Authority, BrokenAuthorityError
from mesh.identity.files import Identity, MissingIdentityError, TornIdentityError
from mesh.identity.names import UnknownNameError
from mesh.identity.rotation import Leaf, Rotation

pytestmark = pytest.mark.unit


def alternatives(identity: Identity) -> x509.SubjectAlternativeName:
    return identity.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_a_leaf_names_its_holder_in_every_form(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("chat")
    names = alternatives(identity)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://octopus.local/chat"]
    assert names.get_values_for_type(x509.DNSName) == ["chat.octopus.local"]
    assert identity.certificate().subject.rfc4514_string() == "CN=chat"
    assert names.get_values_for_type(x509.IPAddress) == []


def test_a_server_dialled_by_address_carries_the_loopback_address(tmp_path: Path) -> None:
    names = alternatives(Authority(tmp_path).issue("nats"))
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_server_on_another_machine_carries_the_addresses_at_which_it_is_dialled(tmp_path: Path) -> None:
    names = alternatives(Authority(tmp_path).issue("control", hosts=["10.77.0.1", "control.example"]))
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.77.0.1"]
    assert "control.example" in names.get_values_for_type(x509.DNSName)


def mounted(authority: Authority, folder: Path) -> Identity:
    """A leaf and its authority as an operator's own tool leaves them: plain files, replaced in place."""
    issued = authority.issue("chat")
    identity = Identity(folder, "chat")
    identity.cert.parent.mkdir(parents=True, exist_ok=True)
    identity.ca.write_bytes(issued.ca.read_bytes())
    identity.key.write_bytes(issued.key.read_bytes())
    identity.cert.write_bytes(issued.cert.read_bytes())
    return identity


def test_files_that_somebody_else_renews_in_place_are_noticed(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "theirs")
    identity = mounted(authority, tmp_path / "mounted")
    before, (_, chain) = identity.stamp(), identity.pair()
    mounted(authority, tmp_path / "mounted")
    assert identity.stamp() != before
    assert identity.pair()[1] != chain


def test_a_key_that_does_not_fit_its_certificate_is_not_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "theirs")
    identity = mounted(authority, tmp_path / "mounted")
    context = identity.client_context()
    identity.key.write_bytes(authority.issue("chat").key.read_bytes())
    with pytest.raises(TornIdentityError, match="do not belong together"):
        identity.pair()
    with pytest.raises(TornIdentityError):
        identity.load_into(context)


async def test_contexts_follow_files_that_somebody_else_renews_and_wait_for_the_second_of_the_two(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "theirs")
    identity = mounted(authority, tmp_path / "mounted")
    server, client = identity.server_context(), identity.client_context()
    client.check_hostname = False
    following = asyncio.create_task(identity.follow(server, every=0.01))
    async with greeter(server) as port:

        async def shown() -> int:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return x509.load_der_x509_certificate(der).serial_number

        first = await shown()
        newer = authority.issue("chat")
        identity.key.write_bytes(newer.key.read_bytes())
        assert await shown() == first
        identity.cert.write_bytes(newer.cert.read_bytes())
        async with asyncio.timeout(30):
            while await shown() == first:
                await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_leaf_lives_an_hour_and_is_due_at_half_of_it(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("chat")
    now = datetime.now(UTC)
    assert timedelta(minutes=59) < identity.expires_at - now <= timedelta(hours=1)
    assert not identity.due(now + timedelta(minutes=25))
    assert identity.due(now + timedelta(minutes=31))


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("chat")
    for key in (identity.key, tmp_path / "authority" / "key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_nobody_else_gets_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        Authority(tmp_path).issue("stranger")


def test_the_authority_is_the_same_after_a_restart(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("chat")
    assert Authority(tmp_path).holds(identity)


def test_a_damaged_authority_says_what_to_do(tmp_path: Path) -> None:
    Authority(tmp_path)
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(BrokenAuthorityError, match="Remove"):
        Authority(tmp_path)


def test_a_missing_leaf_says_what_to_do(tmp_path: Path) -> None:
    Authority(tmp_path)
    with pytest.raises(MissingIdentityError, match="octopus up"):
        Identity(tmp_path, "chat").client_context()


@asynccontextmanager
async def greeter(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS server that answers every line with the common name of its caller's certificate; yields its port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readline():
                subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
                writer.write(subject["commonName"].encode() + b"\n")
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greeting(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        writer.write(b"\n")
        return await reader.readline()
    finally:
        writer.close()


async def answered(port: int, context: ssl.SSLContext) -> bool:
    """Say whether the server let this client in; TLS 1.3 tells of a refusal with the first read or by hanging up."""
    try:
        return await greeting(port, context) != b""
    except (ssl.SSLError, ConnectionError):
        return False


async def test_a_member_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("nats"), authority.issue("chat")
    async with greeter(server.server_context()) as port:
        assert await greeting(port, client.client_context()) == b"chat\n"


async def test_a_leaf_of_a_foreign_authority_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    stranger = theirs.issue("chat").client_context()
    stranger.load_verify_locations(tmp_path / "ours" / "ca.pem")
    async with greeter(ours.issue("nats").server_context()) as port:
        assert not await answered(port, stranger)


async def test_a_caller_without_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    nobody = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with greeter(authority.issue("nats").server_context()) as port:
        assert not await answered(port, nobody)


async def test_a_server_with_the_wrong_name_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    impostor, client = authority.issue("bot"), authority.issue("chat")
    async with greeter(impostor.server_context()) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await greeting(port, client.client_context())


def test_the_public_certificate_is_no_identity(tmp_path: Path) -> None:
    public = Authority(tmp_path / "edge", "Octopus edge authority").issue_public("public")
    names = alternatives(public)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]


def test_a_reader_never_sees_a_pair_that_does_not_fit(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("chat")
    context = identity.client_context()
    done = threading.Event()

    def rotate() -> None:
        for _ in range(50):
            authority.issue("chat")
        done.set()

    writer = threading.Thread(target=rotate)
    writer.start()
    reads = 0
    while not done.is_set():
        identity.load_into(context)
        reads += 1
    writer.join()
    assert reads > 0
    key = serialization.load_pem_private_key(identity.key.read_bytes(), password=None)
    assert key.public_key() == identity.certificate().public_key()


def test_old_leaves_do_not_pile_up(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for _ in range(5):
        authority.issue("chat")
    assert len(list((tmp_path / "leaves").glob("chat-*"))) == 2


async def test_rotation_replaces_a_leaf_at_half_its_life_and_connections_stand(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("nats")
    client = authority.issue("chat", timedelta(seconds=10))  # past its half: it was backdated by a minute
    replaced: list[str] = []

    async def note(identity: Identity) -> None:
        replaced.append(identity.name)

    rotation = Rotation(
        [
            Leaf(server, lambda: authority.issue("nats"), lambda: authority.holds(server)),
            Leaf(client, lambda: authority.issue("chat"), lambda: authority.holds(client)),
        ],
        note,
    )
    listening, calling = server.server_context(), client.client_context()
    async with greeter(listening) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=calling, server_hostname="localhost")
        following = asyncio.create_task(client.follow(calling, every=0.01))
        rotating = asyncio.create_task(rotation.run(every=0.01))
        async with asyncio.timeout(20):
            while not replaced or client.due():
                await asyncio.sleep(0.01)
        writer.write(b"\n")
        assert await reader.readline() == b"chat\n"
        assert await greeting(port, calling) == b"chat\n"
        writer.close()
        for task in (following, rotating):
            task.cancel()
    assert replaced == ["chat"], "the server's leaf was fresh and had to stay"


def test_start_replaces_leaves_of_an_authority_that_is_gone(tmp_path: Path) -> None:
    old = Authority(tmp_path)
    identity = old.issue("chat")
    (tmp_path / "authority" / "key.pem").unlink()
    new = Authority(tmp_path)

    async def nothing(_: Identity) -> None: ...

    rotation = Rotation([Leaf(identity, lambda: new.issue("chat"), lambda: new.holds(identity))], nothing)
    assert [renewed.name for renewed in rotation.renew()] == ["chat"]
    assert new.holds(identity)
    assert rotation.renew() == []
