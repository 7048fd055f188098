"""The mesh as its operator sees it: versions, shares, certificates and numbers, through the whole platform."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import grpc
import psutil
import pytest
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2

from e2e.clients.edge import Identity
from e2e.people import Shop
from e2e.running import Octopus
from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.platform.folder import Folder
from mesh.platform.launch import environment
from mesh.platform.settings import write_settings

pytestmark = pytest.mark.e2e

# Who is new gets calls, and who is dead gets none, within 5 seconds; a busy machine takes a second for each look.
FOLLOWS_WITHIN_S = 20.0


def octopus_mesh(octopus: Octopus, *arguments: str) -> str:
    """Run `octopus mesh` and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "mesh.platform.cli", "--root", str(octopus.root), "mesh", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_the_status_shows_every_instance_with_version_health_and_certificate(octopus: Octopus) -> None:
    shown = await asyncio.to_thread(octopus_mesh, octopus, "status")
    for process in octopus.status()["processes"]:
        if process["name"] in ("postgres", "valkey", "nats", "edge", "control"):
            continue
        (line,) = [line for line in shown.splitlines() if re.search(rf"\s{process['instance']}\s", line)]
        assert re.search(r"\sv1\s.*\sserving\s.*\d+ min", line), line


async def test_every_process_tells_its_numbers(octopus: Octopus) -> None:
    """Each process of ours listens on a loopback port for Prometheus; the others have endpoints that know them."""
    found = octopus.status()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        for process in found["processes"]:
            if process["name"] in ("postgres", "valkey", "nats", "edge"):
                continue
            texts = [text for port in _listens(process["pid"]) if (text := await _numbers(http, port))]
            assert len(texts) == 1, f"{process['instance']} answers on {len(texts)} ports"
            assert "process_cpu_seconds_total" in texts[0]
        async with http.get(found["endpoints"]["edge_metrics"]) as answer:
            assert "envoy_cluster_upstream_rq" in await answer.text()


def _listens(pid: int) -> list[int]:
    connections = psutil.Process(pid).net_connections("tcp")
    return [each.laddr[1] for each in connections if each.status == psutil.CONN_LISTEN]


async def _numbers(http: aiohttp.ClientSession, port: int) -> str:
    try:
        async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return await answer.text() if answer.status == 200 else ""
    except aiohttp.ClientError:
        # The port of its gRPC server.
        return ""


@asynccontextmanager
async def canary(octopus: Octopus, instance: str, version: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one more instance of chat, of another version, as an operator would: same program, own settings."""
    folder = Folder(octopus.root)
    settings = tomllib.loads((folder.config / "chat-1.toml").read_text())
    path = folder.config / f"{instance}.toml"
    write_settings(path, {**settings, "instance": instance, "version": version, "metrics_port": 0})
    with (folder.log / f"{instance}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.chat", "--config", path,
            env={**os.environ, **environment()}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


class Crowd:
    """Many shoppers, each of whom the edge sends to an instance of chat."""

    def __init__(self, channel: grpc.aio.Channel, people: list[Identity]) -> None:
        self._chat = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._people = people

    async def call(self) -> None:
        """Let each call once. A refusal is an answer too: the session is not theirs."""
        await asyncio.gather(*(self._once(person) for person in self._people))

    async def _once(self, person: Identity) -> None:
        request = chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=4711))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self._chat.Send(request, metadata=person.metadata, timeout=10)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND, error.value


@pytest.fixture
async def crowd(channel: grpc.aio.Channel, qingshan: Shop) -> Crowd:
    return Crowd(channel, [await qingshan.visitor() for _ in range(200)])


class Counting:
    """Counts, by instance, the calls that arrived: from the access logs of the instances themselves."""

    def __init__(self, octopus: Octopus) -> None:
        self._log = Folder(octopus.root).log

    def calls(self) -> Counter[str]:
        """Return how many calls each instance of chat has answered."""
        return Counter(
            {
                path.stem: len(re.findall(r'"method":"octopus.chat.v1.ChatService/Send"[^\n]*"caller":"edge"', text))
                for path in self._log.glob("chat-*.log")
                if (text := path.read_text())
            }
        )

    async def during(self, crowd: Crowd) -> Counter[str]:
        """Return who answered one call of each of the crowd."""
        before = self.calls()
        await crowd.call()
        await asyncio.sleep(0.1)
        return self.calls() - before


async def until(true: Callable[[], Awaitable[bool]], within: float) -> None:
    """Wait for something to come true."""
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.1)


async def test_a_canary_gets_its_share_and_a_killed_one_nothing(octopus: Octopus, crowd: Crowd) -> None:
    counting = Counting(octopus)
    async with canary(octopus, "chat-9", "v2") as process:

        async def shows() -> str:
            return await asyncio.to_thread(octopus_mesh, octopus, "status")

        async def listed() -> bool:
            return bool(re.search(r"chat-9\s+v2\s.*serving", await shows()))

        await until(listed, 60)
        octopus_mesh(octopus, "weight", "chat", "v2=10")
        try:
            counts: list[Counter[str]] = [Counter()]

            async def settled() -> bool:
                counts.append(await counting.during(crowd))
                # 20 of 200 expected, standard deviation 4.2. The edge keeps each person with a version: once it has
                # the new shares, the same people come to the same instances again.
                return 3 <= counts[-1]["chat-9"] <= 41 and counts[-1] == counts[-2]

            await until(settled, 2 * FOLLOWS_WITHIN_S)
            assert sum(counts[-1].values()) == 200
            assert "10 %" in await shows()

            process.kill()
            await process.wait()

            async def forgotten() -> bool:
                return "chat-9" not in await shows()

            await until(forgotten, FOLLOWS_WITHIN_S)
            after = await counting.during(crowd)
            assert sum(after.values()) == 200
            assert after["chat-9"] == 0
        finally:
            octopus_mesh(octopus, "weight", "chat", "--even")


async def test_all_certificates_are_replaced_and_no_call_fails(octopus: Octopus, crowd: Crowd) -> None:
    folder = Folder(octopus.root)
    authority = Authority(folder.identity)
    # They are backdated by a minute, so half of their life is over, and the supervisor replaces them.
    short = timedelta(seconds=55)
    serials = {
        each: each.certificate().serial_number for each in (authority.issue(name, short) for name in names.everybody())
    }
    restarts = sum(process["restarts"] for process in octopus.status()["processes"])

    async def replaced() -> bool:
        # Every call of the crowd must succeed all the while; `call` asserts it.
        await crowd.call()
        return all(identity.certificate().serial_number != serials[identity] for identity in serials)

    await until(replaced, 60)
    for _ in range(5):
        await crowd.call()
    assert sum(process["restarts"] for process in octopus.status()["processes"]) == restarts
