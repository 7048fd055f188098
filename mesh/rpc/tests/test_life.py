"""A server's end, and certificates that change while it runs."""

import asyncio
import shutil
import socket
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.errors import Refused
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.rpc.metadata import Metadata, with_token
from mesh.rpc.server import PortTaken, build
from mesh.rpc.tests.conftest import Chat
from mesh.testing.rpc import Keys, dialling

pytestmark = pytest.mark.service

ChatStub = chat_service_pb2_grpc.ChatServiceStub
Request = chat_service_pb2.SendRequest
Response = chat_service_pb2.SendResponse
TYPING = Request(typing=frame_pb2.Typing(session_id=5))


async def test_a_graceful_stop_finishes_what_runs_and_takes_no_more(identity: Path, keys: Keys, chat: Chat) -> None:
    release = asyncio.Event()

    async def send(_: Request) -> Response:
        await release.wait()
        return Response(ack=frame_pb2.Ack(message_id=42))

    chat.send = send
    server = build(
        Identity(identity, "chat"),
        keys.verifier(),
        partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat),
    )
    await server.start()
    metadata = with_token(keys.token("qingshan", 7, "CUSTOMER"))
    async with dialling(identity, "edge", "chat", f"127.0.0.1:{server.port}") as channel:
        stub = ChatStub(channel)
        running = asyncio.ensure_future(stub.Send(TYPING, metadata=metadata))
        await chat.arrived.wait()
        await server.refuse()
        stopping = asyncio.create_task(server.stop(10))
        with pytest.raises(Refused) as caught:
            await _until_refused(stub, metadata)
        assert caught.value.reason in {errors_pb2.REASON_UNAVAILABLE, errors_pb2.REASON_DEADLINE_EXCEEDED}
        assert not stopping.done()
        release.set()
        assert (await running).ack.message_id == 42
        async with asyncio.timeout(5):
            await stopping


async def test_what_does_not_finish_in_its_grace_is_cancelled(identity: Path, keys: Keys, chat: Chat) -> None:
    server = build(
        Identity(identity, "chat"),
        keys.verifier(),
        partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat),
    )
    await server.start()
    metadata = with_token(keys.token("qingshan", 7, "CUSTOMER"))
    async with dialling(identity, "edge", "chat", f"127.0.0.1:{server.port}") as channel:
        call: Any = ChatStub(channel).Subscribe(
            chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello()), metadata=metadata
        )
        await call.read()
        async with asyncio.timeout(5):
            await server.stop(0.2)
            await chat.cleaned_up.wait()


async def test_a_health_watch_is_told_and_does_not_delay_the_stop(identity: Path, keys: Keys) -> None:
    server = build(Identity(identity, "chat"), keys.verifier())
    await server.start()
    async with dialling(identity, "edge", "chat", f"127.0.0.1:{server.port}") as channel:
        watch: Any = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.refuse()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(10):
            await server.stop(60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_port_in_use_says_so(identity: Path, keys: Keys, address: str) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(PortTaken, match=f"127.0.0.1:{port}: the port is in use"):
        build(Identity(identity, "chat"), keys.verifier(), port=port)


async def test_certificates_rotate_under_load_without_a_failure(tmp_path: Path, keys: Keys, chat: Chat) -> None:
    """Old connections stay, new ones get the newest leaf, and no call fails."""
    authority = Authority(tmp_path)
    for name in ("chat", "edge"):
        authority.issue(name)
    add = partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat)
    server = build(Identity(tmp_path, "chat"), keys.verifier(), add)
    await server.start()
    address = f"127.0.0.1:{server.port}"
    metadata = with_token(keys.token("qingshan", 7, "CUSTOMER"))
    over, calls, connections = asyncio.Event(), 0, 0

    async def on_one_connection() -> None:
        nonlocal calls
        async with dialling(tmp_path, "edge", "chat", address) as channel:
            stub = ChatStub(channel)
            while not over.is_set():
                await stub.Send(TYPING, metadata=metadata)
                calls += 1

    async def on_new_connections() -> None:
        nonlocal connections
        while not over.is_set():
            async with dialling(tmp_path, "edge", "chat", address) as channel:
                await ChatStub(channel).Send(TYPING, metadata=metadata)
                connections += 1

    async with asyncio.TaskGroup() as load:
        for _ in range(3):
            load.create_task(on_one_connection())
        load.create_task(on_new_connections())
        seen = set()
        for _ in range(5):
            before = (calls, connections)
            authority.issue("chat")
            authority.issue("edge")
            async with asyncio.timeout(20):
                while calls < before[0] + 30 or connections < before[1] + 3:
                    await asyncio.sleep(0.01)
            shown = await asyncio.to_thread(_leaf_of, tmp_path, address)
            assert shown.serial_number == Identity(tmp_path, "chat").certificate().serial_number
            seen.add(shown.serial_number)
        over.set()
    assert len(seen) == 5
    await server.stop(1)


async def test_an_expired_leaf_of_a_client_is_refused(tmp_path: Path, keys: Keys) -> None:
    authority = Authority(tmp_path)
    authority.issue("chat")
    authority.issue("edge", timedelta(seconds=-60))
    server = build(Identity(tmp_path, "chat"), keys.verifier())
    await server.start()
    async with dialling(tmp_path, "edge", "chat", f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(Refused) as caught:
            await ChatStub(channel).Send(TYPING, timeout=3)
    assert caught.value.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    await server.stop(0)


async def test_a_leaf_that_vanished_keeps_the_one_in_use(tmp_path: Path, keys: Keys, chat: Chat) -> None:
    authority = Authority(tmp_path)
    authority.issue("chat")
    authority.issue("edge")
    add = partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat)
    server = build(Identity(tmp_path, "chat"), keys.verifier(), add)
    await server.start()
    link = tmp_path / "chat"
    target = link.resolve()
    shutil.rmtree(target)
    async with dialling(tmp_path, "edge", "chat", f"127.0.0.1:{server.port}") as channel:
        await ChatStub(channel).Send(TYPING, metadata=with_token(keys.token("qingshan", 7, "CUSTOMER")))
    await server.stop(0)


async def _until_refused(stub: ChatStub, metadata: Metadata) -> None:
    """Calls until the news that the server takes no more has reached this side, and raises what a call met then."""
    while True:
        await stub.Send(TYPING, metadata=metadata, timeout=0.2)


def _leaf_of(folder: Path, address: str) -> x509.Certificate:
    """The certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    context = Identity(folder, "edge").client_context()
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=5) as plain, context.wrap_socket(plain) as secured:
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)
