"""Real servers and channels, fed by a real control plane in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from octopus.errors.v1 import errors_pb2
from octopus.mesh.v1 import mesh_service_pb2 as pb
from octopus.mesh.v1 import mesh_service_pb2_grpc, registry_pb2

from mesh import bus
from mesh.control import bootstrap
from mesh.control.tests.processes import REPOSITORY, Caller, Process, during, until
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.platform.settings import write_settings
from mesh.rpc.channel import connect
from mesh.testing.platform import Platform
from mesh.testing.ports import free_port

pytestmark = pytest.mark.service

SEND = "/octopus.chat.v1.ChatService/Send"
CONVERSE = "/octopus.chat.v1.ChatService/Converse"


class Mesh:
    """A control plane, whatever instances a test starts, and a channel of `bot`."""

    def __init__(self, platform: Platform, port: int) -> None:
        self._platform = platform
        self.port = port
        self.control = Process("mesh.control.tests.run_control", platform.config("control", port=port))
        self.stack = AsyncExitStack()

    async def instance(self, name: str, *, service: str = "chat", version: str = "v1", **extra: Any) -> Process:
        config = self._platform.config(service, instance=name, version=version, **extra)
        process = await Process("mesh.control.tests.run_echo", config).start()
        self.stack.push_async_callback(process.kill)
        return process

    def caller(self, path: str = SEND, service: str = "chat") -> Caller:
        channel = grpc.aio.secure_channel(f"xds:///{service}", grpc.xds_channel_credentials())
        self.stack.push_async_callback(channel.close)
        return Caller(channel, path)

    async def operator(self) -> mesh_service_pb2_grpc.MeshServiceStub:
        identity = Identity(self._platform.identity, "operator")
        channel = await self.stack.enter_async_context(connect("control", identity, address=f"127.0.0.1:{self.port}"))
        return mesh_service_pb2_grpc.MeshServiceStub(channel)

    async def listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def instances(self) -> dict[str, registry_pb2.Instance]:
        mesh = await (await self.operator()).GetMesh(pb.GetMeshRequest())
        return {each.instance_id: each for each in mesh.instances}

    async def lists(self, *names: str, within: float = 20) -> None:
        """Waits until the registry has these instances, and no others."""

        async def so() -> bool:
            return set(await self.instances()) == set(names)

        await until(so, within)

    async def answers_from(self, caller: Caller, *names: str, within: float = 30) -> float:
        """Waits until these instances answer, and no others."""

        async def so() -> bool:
            return set(await caller.many(40)) == set(names)

        return await until(so, within)


@pytest.fixture(scope="module")
def control_port() -> int:
    return free_port()


@pytest_asyncio.fixture
async def mesh(platform: Platform, control_port: int) -> AsyncIterator[Mesh]:
    # gRPC reads this once in the life of a process, so every test's control plane has the same port.
    bootstrap.install(
        xds=f"127.0.0.1:{control_port}", identity=platform.identity, name="bot", instance="bot-1", refresh_s=1
    )
    running = Mesh(platform, control_port)
    async with running.stack:
        await running.control.start()
        running.stack.push_async_callback(running.control.kill)
        await until(running.listens, within=60)
        yield running


async def test_a_new_instance_takes_calls_and_a_killed_one_gets_none_within_5_seconds(mesh: Mesh) -> None:
    await mesh.instance("chat-1", weight=10)
    caller = mesh.caller()
    await mesh.answers_from(caller, "chat-1")
    caller.errors.clear()
    # It holds 99 of 100 entries of the hash ring, so that whichever ports were chosen, hundreds of neighbouring entries
    # are its own: who looks only a few entries further finds nobody else.
    second = await mesh.instance("chat-2", weight=1_000)
    await mesh.lists("chat-1", "chat-2")

    async def taken_over() -> bool:
        return (await caller.many(40))["chat-2"] > 20

    await until(taken_over, within=5)

    await second.kill()
    await mesh.answers_from(caller, "chat-1", within=5)
    # Every call was answered all the same: Send is idempotent, so it was tried again.
    assert caller.errors == []
    await mesh.lists("chat-1", within=15)


async def test_an_instance_that_ends_in_order_is_missed_by_no_call(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    second = await mesh.instance("chat-2")
    # Not idempotent, so that a failure could not be hidden by trying again.
    caller = mesh.caller(CONVERSE)
    await mesh.answers_from(caller, "chat-1", "chat-2")
    caller.errors.clear()
    await second.stop()
    await mesh.answers_from(caller, "chat-1", within=5)
    assert caller.errors == []


async def test_a_split_sends_a_tenth_to_the_canary(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    await mesh.instance("chat-2", version="v2")
    caller = mesh.caller()
    await mesh.answers_from(caller, "chat-1", "chat-2")
    operator = await mesh.operator()

    answer = await operator.SetTrafficSplit(pb.SetTrafficSplitRequest(service="chat", percent={"v2": 10}))
    assert dict(answer.split.percent) == {"v1": 90, "v2": 10}

    async def told() -> bool:
        return (await caller.many(100))["chat-2"] <= 25

    await until(told, within=15)
    counted = await caller.many(1000)
    # 100 expected, and 60 is more than six standard deviations.
    assert 40 <= counted["chat-2"] <= 160, counted
    assert counted["chat-1"] + counted["chat-2"] == 1000

    await operator.SetTrafficSplit(pb.SetTrafficSplitRequest(service="chat", percent={"v1": 100}))
    await mesh.answers_from(caller, "chat-1", within=15)

    await operator.SetTrafficSplit(pb.SetTrafficSplitRequest(service="chat"))
    await mesh.answers_from(caller, "chat-1", "chat-2", within=15)


async def test_users_of_a_canary_whose_only_instance_dies_are_served_by_the_stable_version(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    canary = await mesh.instance("chat-2", version="v2")
    caller = mesh.caller()
    await mesh.answers_from(caller, "chat-1", "chat-2")
    operator = await mesh.operator()
    await operator.SetTrafficSplit(pb.SetTrafficSplitRequest(service="chat", percent={"v2": 90}))

    async def told() -> bool:
        return (await caller.many(40))["chat-2"] > 28

    await until(told, within=5)
    caller.errors.clear()
    # Nobody tells the channel that the instance is gone.
    await mesh.control.kill()
    await canary.kill()
    assert set(await caller.many(100)) == {"chat-1"}
    assert caller.errors == []


async def test_a_split_to_a_version_that_does_not_run_is_refused(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    await mesh.answers_from(mesh.caller(), "chat-1")
    operator = await mesh.operator()
    with pytest.raises(Refused, match="no instance of v7 runs"):
        await operator.SetTrafficSplit(pb.SetTrafficSplitRequest(service="chat", percent={"v7": 10}))


async def test_the_calls_of_a_user_reach_the_same_instance(mesh: Mesh) -> None:
    for name in ("chat-1", "chat-2", "chat-3"):
        await mesh.instance(name)
    caller = mesh.caller()
    await mesh.answers_from(caller, "chat-1", "chat-2", "chat-3")
    for user in range(20):
        assert len({await caller.once(user) for _ in range(10)}) == 1


async def test_calls_go_on_without_the_control_plane_and_follow_it_when_it_is_back(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    caller = mesh.caller(CONVERSE)
    await mesh.answers_from(caller, "chat-1")
    await mesh.control.kill()
    assert await caller.many(200) == {"chat-1": 200}

    await mesh.control.start()
    await mesh.instance("chat-2")
    # gRPC dials the control plane again after 1 s, then 1.6 s and so on.
    await mesh.answers_from(caller, "chat-1", "chat-2", within=30)
    assert (await caller.many(200))["error"] == 0


async def test_only_idempotent_methods_are_tried_again(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    send, converse = mesh.caller(SEND), mesh.caller(CONVERSE)
    await mesh.answers_from(send, "chat-1")
    assert await send.once(fail_first="2") == "chat-1"
    with pytest.raises(grpc.aio.AioRpcError, match="told to fail"):
        await send.once(fail_first="3")
    with pytest.raises(grpc.aio.AioRpcError, match="told to fail"):
        await converse.once(fail_first="1")


async def test_an_instance_that_only_fails_is_left_out(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    await mesh.instance("chat-2")
    caller = mesh.caller(CONVERSE)
    await mesh.answers_from(caller, "chat-1", "chat-2")

    async def left_out() -> bool:
        return (await caller.many(60, fail_at="chat-2"))["error"] == 0

    await until(left_out, within=30)
    # And is given another chance.
    await mesh.answers_from(caller, "chat-1", "chat-2", within=20)


async def test_a_service_without_instances_fails_at_once(mesh: Mesh) -> None:
    await mesh.instance("chat-1")
    await mesh.answers_from(mesh.caller(), "chat-1")
    nobody = mesh.caller("/octopus.session.v1.SessionService/GetSession", "session")

    async def so() -> bool:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await nobody.once()
        return refused.value.code() is grpc.StatusCode.UNAVAILABLE and "session-v1" in str(refused.value.details())

    await until(so, within=15)


async def test_a_restart_of_nats_takes_nobody_off_the_list(mesh: Mesh, platform: Platform) -> None:
    await mesh.instance("chat-1")
    await mesh.instance("chat-2")
    caller = mesh.caller(CONVERSE)
    await mesh.answers_from(caller, "chat-1", "chat-2")

    async def both_answer() -> None:
        assert set(await caller.many(40)) == {"chat-1", "chat-2"}

    await platform.nats.kill()
    try:
        # Longer than any entry lives without renewal.
        await during(5, both_answer)
    finally:
        await platform.nats.start()
    await during(4, both_answer)
    # And it is a registry again.
    await mesh.instance("chat-3")
    await mesh.answers_from(caller, "chat-1", "chat-2", "chat-3", within=30)


async def test_a_server_that_is_another_service_is_not_believed(mesh: Mesh, platform: Platform) -> None:
    await mesh.instance("bot-1", service="bot")
    await mesh.lists("bot-1")
    real = (await mesh.instances())["bot-1"]
    # Whoever can write the registry still cannot be session without its certificate.
    identity = Identity(platform.identity, "operator")
    async with bus.connect(platform.nats_url, "operator", tls=identity.client_context) as connected:
        false = registry_pb2.Instance()
        false.CopyFrom(real)
        false.service, false.instance_id = "session", "session-1"
        caller = mesh.caller("/octopus.session.v1.SessionService/GetSession", "session")

        async def refused() -> bool:
            # Renewed, for nobody else does it.
            await connected.kv("registry").put("session.session-1", false.SerializeToString())
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await caller.once()
            return "certificate" in str(error.value.details()).lower()

        await until(refused, within=30)


async def test_a_rotated_certificate_is_used_for_new_connections(mesh: Mesh, platform: Platform) -> None:
    await mesh.instance("chat-1")
    caller = mesh.caller(CONVERSE)
    await mesh.answers_from(caller, "chat-1")
    # Before the first instance was there, calls failed, and more of them the slower it started.
    caller.errors.clear()
    platform.authority.issue("bot")
    platform.authority.issue("chat")
    newest = Identity(platform.identity, "bot").cert.read_text()
    copies = count(2)

    async def newest_is_used() -> bool:
        # Only a new connection shows a new certificate.
        name = f"chat-{next(copies)}"
        process = await mesh.instance(name)
        await mesh.answers_from(caller, "chat-1", name)
        told = {await caller.once(user, tell_certificate="1") for user in range(40)}
        await process.stop()
        await mesh.answers_from(caller, "chat-1")
        return newest in told

    # gRPC looks at the files every second; each try starts a process.
    await until(newest_is_used, within=90)
    assert caller.errors == []


async def test_the_command_shows_the_mesh_and_shifts_traffic(mesh: Mesh, platform: Platform, tmp_path: Path) -> None:
    await mesh.instance("chat-1")
    await mesh.instance("chat-2", version="v2")
    await mesh.answers_from(mesh.caller(), "chat-1", "chat-2")
    settings = platform.config("operator", xds=f"127.0.0.1:{mesh.port}").model_dump(mode="json")
    (tmp_path / "config").mkdir()
    write_settings(tmp_path / "config" / "operator.toml", settings)

    async def octopus_mesh(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mesh.platform.mesh_command", *arguments, cwd=REPOSITORY,
            env={**os.environ, "OCTOPUS_ROOT": str(tmp_path), "COLUMNS": "200",
                 "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen' / 'python'}"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    code, output = await octopus_mesh("weight", "chat", "v2=10")
    assert (code, output) == (0, "chat: v1 90 %, v2 10 %\n")

    async def shown() -> bool:
        code, output = await octopus_mesh("status")
        assert code == 0, output
        lines = {name: line for line in output.splitlines() for name in ("chat-1", "chat-2") if name in line}
        return "90 %" in lines["chat-1"] and "10 %" in lines["chat-2"] and "serving" in lines["chat-1"]

    await until(shown, within=30)
    code, output = await octopus_mesh("weight", "chat", "v9=10")
    assert code == 1
    assert "no instance of v9 runs" in output
    code, output = await octopus_mesh("weight", "chat", "v2:10")
    assert code == 2
    code, output = await octopus_mesh("weight", "chat", "--even")
    assert code == 0, output


@pytest.mark.parametrize("name", ["postgres", "nats"])
async def test_who_is_no_member_gets_no_configuration(mesh: Mesh, platform: Platform, name: str) -> None:
    await mesh.instance("chat-1")
    await mesh.answers_from(mesh.caller(), "chat-1")
    async with connect("control", Identity(platform.identity, name), address=f"127.0.0.1:{mesh.port}") as channel:
        # One message that goes out with the call: gRPC says INTERNAL when a refusal comes before a separate write.
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
        )
        with pytest.raises(Refused) as refused:
            await ask(b"", timeout=5)
        assert refused.value.reason == errors_pb2.REASON_CALLER_NOT_ALLOWED
