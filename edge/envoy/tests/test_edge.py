"""The real Envoy, fed by the real control plane, with clients outside and members inside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import grpc
import jwt
import pytest
import pytest_asyncio
from google.rpc import status_pb2
from octopus.errors.v1 import errors_pb2

from edge.envoy.limits import RETRY_AFTER_S
from edge.envoy.tests.running import (
    CONVERSE,
    IDENTIFY,
    IDENTIFY_PER_MINUTE,
    LOG_IN,
    SEND,
    STREAMS_PER_MINUTE,
    Edge,
    Signer,
    until,
)
from mesh.errors import from_rpc_error, from_status
from mesh.testing.platform import Platform

pytestmark = pytest.mark.service

GRPC_WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": "https://shop.example"}


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("first")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(platform: Platform, signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    running = Edge(platform, tmp_path_factory.mktemp("edge"))
    async with running.stack:
        await running.start()
        await running.publish_keys(signer)
        await running.service("chat", "chat-1")
        await running.service("user", "user-1")
        await running.web_member("bridge")
        await running.web_member("pages")

        async def reachable() -> bool:
            try:
                await running.call(SEND, signer.token())
                await running.call(LOG_IN)
                async with running.http.get(f"{running.url}/") as page:
                    return page.status == 200
            except grpc.aio.AioRpcError:
                return False

        await until(reachable)
        yield running


async def refused(edge: Edge, path: str, token: str | None = None) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await edge.call(path, token)
    return error.value.code(), str(error.value.details())


async def test_a_call_with_a_good_token_arrives_with_its_user(edge: Edge, signer: Signer) -> None:
    got = await edge.call(SEND, signer.token(sub="4711"))
    assert got["octopus-user"] == "4711"
    assert got["authorization"].startswith("Bearer ")


async def test_what_only_the_mesh_may_say_is_taken_from_clients(edge: Edge, signer: Signer) -> None:
    false = {
        "octopus_user": "1",
        "octopus_tenant": "xinghe",
        "octopus_anything": "1",
        "octopus_client_address": "10.0.0.1",
        "x_envoy_upstream_rq_timeout_ms": "1",
        "x_envoy_max_retries": "99",
        "x_forwarded_for": "10.0.0.1",
        "x_forwarded_client_cert": "URI=spiffe://octopus.local/bot",
        "x_forwarded_host": "elsewhere.example",
        "forwarded": "for=10.0.0.1",
        "x_real_ip": "10.0.0.1",
        "grpc_previous_rpc_attempts": "7",
    }
    got = await edge.call(SEND, signer.token(), **false)
    assert got["octopus-user"] == "77"
    assert got["octopus-client-address"] == "127.0.0.1"
    passed = {key for key, value in false.items() if got.get(key.replace("_", "-")) == value}
    assert passed == set()
    assert "octopus-user" not in await edge.call(LOG_IN, None, **false)


def test_tokens(signer: Signer) -> None:
    """What follows is refused for the reason it is made for, and not because every token is."""
    assert jwt.decode(signer.token(), signer.key.public_key(), algorithms=["EdDSA"], audience="octopus")


def bad_tokens(signer: Signer) -> dict[str, str | None]:
    unsigned = jwt.encode({"iss": "octopus", "aud": "octopus", "sub": "1", "exp": time.time() + 600}, "", "none")
    # The public key is public: taken as the secret of another algorithm it would let anyone sign.
    confused = jwt.encode(
        {"iss": "octopus", "aud": "octopus", "sub": "1", "exp": int(time.time()) + 600},
        signer.jwk()["x"].ljust(64, "x"),
        "HS256",
        headers={"kid": signer.kid},
    )
    head, body, signature = signer.token().split(".")
    return {
        "missing": None,
        "garbage": "garbage",
        "forged": Signer(signer.kid).token(),
        "alg none": unsigned,
        "alg confused": confused,
        "expired": signer.token(exp=int(time.time()) - 60),
        "without end": signer.token(exp=None),
        "another issuer": signer.token(iss="somebody"),
        "another audience": signer.token(aud="somebody"),
        "changed": ".".join([head, body[:-4] + "AAAA", signature]),
    }


@pytest.mark.parametrize("kind", bad_tokens(Signer("x")).keys())
async def test_a_bad_token_is_refused_at_the_edge(edge: Edge, signer: Signer, kind: str) -> None:
    code, details = await refused(edge, SEND, bad_tokens(signer)[kind])
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "access token" in details


async def test_one_address_makes_only_so_many_identities_and_is_told_when_to_go_on(edge: Edge, signer: Signer) -> None:
    async def outcome() -> grpc.StatusCode:
        try:
            await edge.call(IDENTIFY)
        except grpc.aio.AioRpcError as error:
            refusals.append(error)
            return error.code()
        return grpc.StatusCode.OK

    refusals: list[grpc.aio.AioRpcError] = []
    began = time.monotonic()
    outcomes = [await outcome() for _ in range(IDENTIFY_PER_MINUTE + 20)]
    filled = int((time.monotonic() - began) // RETRY_AFTER_S) + 1
    assert outcomes[:IDENTIFY_PER_MINUTE] == [grpc.StatusCode.OK] * IDENTIFY_PER_MINUTE
    assert outcomes.count(grpc.StatusCode.OK) <= IDENTIFY_PER_MINUTE + filled
    assert set(outcomes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    told = from_rpc_error(refusals[0])
    assert (told.reason, told.retry_after) == (errors_pb2.REASON_RATE_LIMITED, RETRY_AFTER_S)
    assert "try again" in told.description
    # Other calls of this address go on, and so do others.
    assert await edge.call(LOG_IN)
    assert await edge.call(SEND, signer.token())
    async with edge.browser("127.0.0.2") as elsewhere:
        response, body = await grpc_web(edge, IDENTIFY, at=elsewhere)
        assert frames(body)[1]["grpc-status"] == "0"
        # A forwarded address is a client's own claim: it neither helps nor hurts anybody.
        for number in range(IDENTIFY_PER_MINUTE + 20):
            forged = {"x-forwarded-for": f"10.0.0.{number}", "octopus-client-address": f"10.0.0.{number}"}
            response, body = await grpc_web(edge, IDENTIFY, at=elsewhere, **forged)
        assert response.headers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        status = status_pb2.Status.FromString(base64.b64decode(response.headers["grpc-status-details-bin"] + "=="))
        assert from_status(status).reason == errors_pb2.REASON_RATE_LIMITED
        assert "grpc-status" in response.headers["access-control-expose-headers"]


async def test_one_address_opens_only_so_many_web_sockets(edge: Edge) -> None:
    async with edge.browser("127.0.0.3") as somewhere:
        codes, retry_after, text = [], None, ""
        for _ in range(STREAMS_PER_MINUTE + 60):
            async with somewhere.get(f"{edge.url}/ws") as answer:
                codes.append(answer.status)
                retry_after, text = answer.headers.get("retry-after"), await answer.text()
        assert codes[-1] == 429
        assert codes.count(429) >= 20
        assert retry_after == f"{RETRY_AFTER_S:.0f}"
        assert "请求过于频繁" in text
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await somewhere.ws_connect(f"{edge.url}/ws")
        assert refused.value.status == 429
    async with edge.http.ws_connect(f"{edge.url}/ws") as connection:
        await connection.send_str("still open to others")
        assert await connection.receive_str(timeout=5) == "still open to others"


async def test_a_method_for_anyone_needs_no_token(edge: Edge) -> None:
    assert (await edge.call(LOG_IN))["instance"] == "user-1"


@pytest.mark.parametrize(
    "path",
    [
        "/octopus.chat.v1.ChatService/Nothing",
        "/octopus.mesh.v1.MeshService/GetMesh",
        "/grpc.health.v1.Health/Check",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    ],
)
async def test_what_is_not_for_outside_is_not_there(edge: Edge, signer: Signer, path: str) -> None:
    code, _ = await refused(edge, path, signer.token())
    assert code is grpc.StatusCode.UNIMPLEMENTED


def frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Takes a gRPC-Web body apart into messages and trailers."""
    messages, trailers = [], {}
    while body:
        kind, length = struct.unpack(">BI", body[:5])
        content, body = body[5 : 5 + length], body[5 + length :]
        if kind & 0x80:
            trailers = dict(line.split(":", 1) for line in content.decode().strip().split("\r\n"))
        else:
            messages.append(content)
    return messages, {key: value.strip() for key, value in trailers.items()}


async def grpc_web(
    edge: Edge, path: str, *, at: aiohttp.ClientSession | None = None, **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    body = struct.pack(">BI", 0, 0)
    async with (at or edge.http).post(f"{edge.url}{path}", data=body, headers={**GRPC_WEB, **headers}) as response:
        return response, await response.read()


async def test_a_browser_calls_over_grpc_web(edge: Edge, signer: Signer) -> None:
    response, body = await grpc_web(edge, SEND, authorization=f"Bearer {signer.token()}")
    assert response.status == 200
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert "grpc-status" in response.headers["access-control-expose-headers"]
    (message,), trailers = frames(body)
    assert json.loads(message)["octopus-user"] == "77"
    assert trailers["grpc-status"] == "0"


async def test_a_browser_can_read_why_it_was_refused(edge: Edge) -> None:
    response, _ = await grpc_web(edge, SEND)
    assert response.headers["grpc-status"] == str(grpc.StatusCode.UNAUTHENTICATED.value[0])
    status = status_pb2.Status.FromString(base64.b64decode(response.headers["grpc-status-details-bin"] + "=="))
    assert from_status(status).reason == errors_pb2.REASON_TOKEN_MISSING
    assert response.headers["access-control-allow-origin"] == "https://shop.example"


async def test_a_browser_may_ask_before_it_calls(edge: Edge) -> None:
    asked = {
        "origin": "https://shop.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-grpc-web",
    }
    async with edge.http.options(f"{edge.url}{SEND}", headers=asked) as answer:
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers


async def test_a_web_socket_reaches_the_bridge(edge: Edge) -> None:
    async with edge.http.ws_connect(f"{edge.url}/ws") as connection:
        await connection.send_str("你好")
        assert (await connection.receive_str(timeout=5)) == "你好"


async def test_only_the_web_socket_path_is_upgraded(edge: Edge) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await edge.http.ws_connect(f"{edge.url}/somewhere")


async def test_other_paths_are_pages(edge: Edge) -> None:
    async with edge.http.get(f"{edge.url}/agent/?shop=qingshan") as page:
        told = await page.json()
    assert (told["member"], told["path"]) == ("pages", "/agent/")
    assert "x-forwarded-for" not in {name.lower() for name in told["headers"]}


async def test_old_tls_is_refused(edge: Edge) -> None:
    context = edge.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", edge.port, ssl=context)


async def test_the_access_log_knows_calls_and_no_people(edge: Edge, signer: Signer) -> None:
    token = signer.token(sub="31337")
    await edge.call(SEND, token)
    async with edge.http.get(f"{edge.url}/looked-for?token={token}&name=Li", headers={"cookie": "a=b"}):
        pass

    async def written() -> bool:
        return "/looked-for" in edge.access_log.read_text()

    # Envoy writes its log every ten seconds.
    await until(written, within=40)
    lines = edge.access_log.read_text()
    assert json.loads(lines.splitlines()[-1])["event"] == "edge request"
    for secret in (token, "name=Li", "31337", "Bearer", "127.0.0.1:5"):
        assert secret not in lines


async def test_admin_is_a_socket_of_the_owner_and_metrics_are_not_secret(edge: Edge) -> None:
    path = edge.config.envoy_folder / "admin.sock"
    assert path.stat().st_mode & 0o077 == 0
    base = f"http://127.0.0.1:{edge.config.edge_metrics_port}"
    async with edge.http.get(f"{base}/metrics") as metrics:
        assert "envoy_http_downstream_cx_active" in await metrics.text()
    async with edge.http.get(f"{base}/config_dump") as hidden:
        assert hidden.status == 404


async def test_connections_above_the_limit_are_closed_at_once(edge: Edge) -> None:
    limit = edge.config.max_connections
    opened = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(limit + 20)]
    try:

        async def closed() -> bool:
            ended = 0
            for each in opened:
                each.setblocking(False)
                try:
                    ended += each.recv(1) == b""
                except BlockingIOError:
                    pass
                except ConnectionError:
                    ended += 1
            return ended >= 15

        await until(closed, within=40)
    finally:
        for each in opened:
            each.close()

    async def open_again() -> bool:
        try:
            async with edge.http.get(f"{edge.url}/healthz") as healthy:
                return healthy.status == 200
        except aiohttp.ClientError:
            return False

    await until(open_again, within=40)


class Conversation:
    """A stream that stays open while things happen around it."""

    def __init__(self, edge: Edge, token: str) -> None:
        self._channel = edge.channel()
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(CONVERSE)
        self._call: Any = open_stream(metadata=(("authorization", f"Bearer {token}"),))

    async def __aenter__(self) -> Self:
        await self.say(b"hello")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def say(self, text: bytes) -> None:
        await self._call.write(text)
        assert await asyncio.wait_for(self._call.read(), 5) == text


async def test_new_keys_reach_envoy_and_end_no_stream(edge: Edge, signer: Signer) -> None:
    second = Signer("second")
    async with Conversation(edge, signer.token()) as conversation:
        await edge.publish_keys(second)

        async def rotated() -> bool:
            try:
                await edge.call(SEND, second.token())
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(rotated, within=40)
        assert (await refused(edge, SEND, signer.token()))[0] is grpc.StatusCode.UNAUTHENTICATED
        await conversation.say(b"still here")
        await edge.publish_keys(signer)

        async def back() -> bool:
            try:
                await edge.call(SEND, signer.token())
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(back, within=40)
        await conversation.say(b"and still")


async def shown(edge: Edge) -> bytes:
    """Returns the public certificate that new connections are shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=edge.trust())
    try:
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return certificate
    finally:
        writer.close()


async def test_certificates_are_replaced_and_end_no_stream(edge: Edge, signer: Signer) -> None:
    before = await shown(edge)
    async with Conversation(edge, signer.token()) as conversation:
        edge.public.issue_public("public")
        edge.platform.authority.issue("edge")

        async def replaced() -> bool:
            return await shown(edge) != before

        await until(replaced, within=40)
        await conversation.say(b"still here")
        assert await edge.call(SEND, signer.token())


async def test_envoy_follows_instances_that_come_and_vanish(edge: Edge, signer: Signer) -> None:
    async def answering() -> set[str]:
        return {(await edge.call(SEND, signer.token(sub=str(user))))["instance"] for user in range(20)}

    async def taken_over() -> bool:
        return "chat-2" in await answering()

    # The one that vanishes holds 99 of 100 entries of the hash ring, so that whichever ports were chosen, hundreds of
    # neighbouring entries are its own: a retry that looks only a few entries further finds nobody else.
    async with contextlib.aclosing(await edge.service("chat", "chat-2", weight=9_900)) as second:
        await until(taken_over, within=40)
        # A user's calls go to one instance.
        assert len({(await edge.call(SEND, signer.token(sub="5")))["instance"] for _ in range(10)}) == 1
        await second.vanish()
        # No call fails in between: what could not be sent is sent elsewhere.
        assert await answering() == {"chat-1"}


async def test_users_of_a_canary_whose_only_instance_vanishes_are_served_by_the_stable_version(
    edge: Edge, signer: Signer
) -> None:
    async def answering() -> set[str]:
        return {(await edge.call(SEND, signer.token(sub=str(user))))["instance"] for user in range(20)}

    async def taken_over() -> bool:
        return "canary-1" in await answering()

    # By its weight nearly all calls are the canary's.
    async with contextlib.aclosing(await edge.service("chat", "canary-1", weight=9_900, version="v2")) as canary:
        await until(taken_over, within=20)
        # A user's calls go to one instance of one version.
        assert len({(await edge.call(SEND, signer.token(sub="5")))["instance"] for _ in range(10)}) == 1
        # Nobody tells Envoy that the instance is gone.
        await edge.kill_control()
        try:
            await canary.vanish()
            assert await answering() == {"chat-1"}
            async with Conversation(edge, signer.token(sub="5")) as conversation:
                await conversation.say(b"served by the stable version")
        finally:
            await edge.start_control()


async def test_a_server_that_is_another_service_is_not_believed(edge: Edge, signer: Signer) -> None:
    # What claims to be session in the registry is an instance of chat, and its certificate says so.
    service = await edge.service("chat", "chat-9")
    await edge.claim("session", "session-1", service.port)

    async def found() -> bool:
        _, details = await refused(edge, "/octopus.session.v1.SessionService/GetSession", signer.token())
        assert "Method not found" not in details
        async with edge.http.get(f"http://127.0.0.1:{edge.config.edge_metrics_port}/metrics") as metrics:
            counter = 'envoy_cluster_ssl_fail_verify_san{envoy_cluster_name="session-v1"} '
            (line,) = [line for line in (await metrics.text()).splitlines() if line.startswith(counter)]
        return int(line.removeprefix(counter)) > 0

    try:
        await until(found, within=40)
    finally:
        await service.aclose()


async def test_the_edge_goes_on_without_the_control_plane(edge: Edge, signer: Signer) -> None:
    async with Conversation(edge, signer.token()) as conversation:
        await edge.kill_control()
        await conversation.say(b"nobody noticed")
        assert await edge.call(SEND, signer.token())
        await edge.start_control()
        second = await edge.service("chat", "chat-3")

        async def follows_again() -> bool:
            # Until their registrations lapse, a new control plane still believes in those that died before it began.
            with contextlib.suppress(grpc.aio.AioRpcError):
                answers = {(await edge.call(SEND, signer.token(sub=str(user))))["instance"] for user in range(20)}
                return "chat-3" in answers
            return False

        await until(follows_again, within=40)
        await conversation.say(b"still nobody")
        await second.aclose()


async def test_a_bridge_on_this_machine_gets_connections_unread_and_gives_back_what_is_no_web_socket(
    edge: Edge, signer: Signer, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        path = tmp_path / "gate.sock"
        seen = await edge.gate(stack, path)

        async def page() -> bool:
            async with edge.browser("127.0.0.8") as browser, browser.get(f"{edge.url}/page") as answer:
                return answer.status == 200 and (await answer.json())["member"] == "pages"

        async def by_the_gate() -> bool:
            assert await page()
            return bool(seen)

        await until(by_the_gate)
        assert {each.network for each in seen} == {bytes((127, 0, 0, 8))}
        # Each address has its own count, and a client is where it is.
        async with edge.browser("127.0.0.8") as browser:
            answers = [(await grpc_web(edge, IDENTIFY, at=browser))[0] for _ in range(IDENTIFY_PER_MINUTE + 20)]
        assert answers[-1].headers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        async with edge.browser("127.0.0.9") as browser:
            assert frames((await grpc_web(edge, IDENTIFY, at=browser))[1])[1]["grpc-status"] == "0"
        # HTTP/2 is not for the gate.
        told = len(seen)
        assert (await edge.call(SEND, signer.token()))["instance"] == "chat-1"
        assert len(seen) == told
        # A bridge that has died, and is still registered, is passed over.
        path.unlink()
        for _ in range(10):
            assert await page()


async def test_behind_a_proxy_of_ours_the_client_is_where_the_proxy_says(
    platform: Platform, signer: Signer, tmp_path: Path
) -> None:
    behind = Edge(platform, tmp_path, trusted_proxies=1)
    async with behind.stack:
        await behind.start()
        await behind.publish_keys(signer)
        await behind.service("user", "user-7")

        async def reachable() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return bool(await behind.call(LOG_IN))
            return False

        await until(reachable)
        # The proxy adds the address it sees at the end; what stands before is the client's own claim.
        said = {"x_forwarded_for": "10.0.0.1, 198.51.100.9", "octopus_client_address": "10.0.0.1"}
        got = await behind.call(LOG_IN, **said)
        assert got["octopus-client-address"] == "198.51.100.9"
        assert "x-forwarded-for" not in got
        # Each of them has its own count.
        for number in range(IDENTIFY_PER_MINUTE * 3):
            await behind.call(IDENTIFY, x_forwarded_for=f"198.51.100.{number}")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            for _ in range(IDENTIFY_PER_MINUTE * 2):
                await behind.call(IDENTIFY, x_forwarded_for="10.0.0.1, 198.51.100.200")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_those_who_connect_all_at_once_are_closed_before_their_handshake_and_those_who_talk_go_on(
    platform: Platform, signer: Signer, tmp_path: Path
) -> None:
    per_second, at_once = 10, 20
    crowded = Edge(
        platform, tmp_path, max_connections=1_000, connections_per_second=per_second, connections_at_once=at_once
    )

    async def shakes_hands() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", crowded.port, ssl=crowded.trust())
        except ConnectionError:
            return False
        writer.close()
        return True

    async def talks() -> bool:
        try:
            async with Conversation(crowded, signer.token()):
                return True
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False

    async with crowded.stack:
        await crowded.start()
        await crowded.publish_keys(signer)
        await crowded.service("chat", "chat-7")
        await until(talks)
        async with Conversation(crowded, signer.token()) as conversation:
            began = time.monotonic()
            taken = await asyncio.gather(*(shakes_hands() for _ in range(200)))
            seconds = time.monotonic() - began
            # What the bucket held, and what was filled in since.
            assert sum(taken) <= at_once + per_second * seconds + 1
            assert taken.count(False) > 100
            await conversation.say(b"still talking")
            # Who tries again gets in.
            await until(shakes_hands)
        async with crowded.http.get(f"http://127.0.0.1:{crowded.config.edge_metrics_port}/metrics") as metrics:
            assert "rate_limited" in await metrics.text()
