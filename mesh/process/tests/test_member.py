"""A whole process against the real components: it opens, serves, registers, and ends in order."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from octopus.bot.v1 import bot_service_pb2, bot_service_pb2_grpc
from octopus.errors.v1 import errors_pb2
from octopus.mesh.v1 import registry_pb2
from octopus.user.v1 import user_events_pb2

from mesh import bus
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.process.config import ConfigError, ServiceConfig
from mesh.process.member import Member, TaskDied
from mesh.rpc.metadata import with_token
from mesh.testing import Platform
from mesh.testing.rpc import Keys, dialling

pytestmark = pytest.mark.store

QUESTION = bot_service_pb2.TryQuestionRequest(question="你们几点开门？")


class Bot(bot_service_pb2_grpc.BotServiceServicer):
    """Answers when a test lets it."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def TryQuestion(
        self, request: bot_service_pb2.TryQuestionRequest, context: Any
    ) -> bot_service_pb2.TryQuestionResponse:
        self.arrived.set()
        await self.release.wait()
        return bot_service_pb2.TryQuestionResponse(hands_over=True)


@pytest.fixture
async def user_bus(platform: Platform) -> AsyncIterator[bus.Bus]:
    """The bus as the user service has it: nobody else may publish keys."""
    async with bus.connect(platform.nats_url, "user", tls=Identity(platform.identity, "user").client_context) as user:
        yield user


async def publish(user_bus: bus.Bus, keys: Keys, member: Member) -> str:
    """Publishes a key, and returns an administrator's token once the member knows the key."""
    await user_bus.kv("keys").put("jwks", keys.jwks().encode(), timeout=20)
    token = keys.token("qingshan", 7, "KNOWLEDGE_ADMIN")
    async with asyncio.timeout(20):
        while not _knows(member, token):
            await asyncio.sleep(0.02)
    return token


def _knows(member: Member, token: str) -> bool:
    try:
        member.keys.verify(token)
    except Refused:
        return False
    return True


async def test_a_member_serves_registers_and_leaves_in_order(platform: Platform, user_bus: bus.Bus) -> None:
    config: ServiceConfig = platform.config("bot", shutdown_grace_s=5)
    bot = Bot()
    stopped: list[bool] = []
    async with Member(config) as member:
        token = await publish(user_bus, Keys(), member)
        port = await member.serve(partial(bot_service_pb2_grpc.add_BotServiceServicer_to_server, bot))
        member.on_stop(lambda: stopped.append(member.stopping.is_set()))
        entry = await member.bus.kv("registry").get("bot.bot-1")
        assert entry is not None
        assert entry.value is not None
        instance = registry_pb2.Instance.FromString(entry.value)
        assert (instance.service, instance.port, instance.pid) == ("bot", port, os.getpid())
        assert instance.health == registry_pb2.HEALTH_SERVING
        async with httpx.AsyncClient() as http:
            numbers = (await http.get(f"http://127.0.0.1:{instance.metrics_port}/metrics")).text
        assert "octopus_rpc_server_calls" in numbers
        async with dialling(platform.identity, "edge", "bot", f"127.0.0.1:{port}") as channel:
            stub = bot_service_pb2_grpc.BotServiceStub(channel)
            assert (await stub.TryQuestion(QUESTION, metadata=with_token(token))).hands_over
            bot.arrived.clear()
            bot.release.clear()
            running = asyncio.ensure_future(stub.TryQuestion(QUESTION, metadata=with_token(token)))
            await bot.arrived.wait()
            leaving = asyncio.create_task(member.finish())
            await member.stopping.wait()
            async with asyncio.timeout(5):
                while await _health(member) == registry_pb2.HEALTH_SERVING:
                    await asyncio.sleep(0.02)
            assert not leaving.done()
            bot.release.set()
            assert (await running).hands_over
            await leaving
        assert stopped == [True]
        assert await member.bus.kv("registry").get("bot.bot-1") is None


async def test_others_are_told_the_address_that_reaches_the_member_and_its_metrics(
    platform: Platform, user_bus: bus.Bus
) -> None:
    everywhere = "0.0.0.0"  # noqa: S104
    config = platform.config("bot", host=everywhere, advertised_host="127.0.0.9", metrics_host="127.0.0.9")
    async with Member(config) as member:
        token = await publish(user_bus, Keys(), member)
        await member.serve(partial(bot_service_pb2_grpc.add_BotServiceServicer_to_server, Bot()))
        entry = await member.bus.kv("registry").get("bot.bot-1")
        assert entry is not None
        assert entry.value is not None
        instance = registry_pb2.Instance.FromString(entry.value)
        assert instance.host == "127.0.0.9"
        async with dialling(platform.identity, "edge", "bot", f"{instance.host}:{instance.port}") as channel:
            stub = bot_service_pb2_grpc.BotServiceStub(channel)
            assert (await stub.TryQuestion(QUESTION, metadata=with_token(token))).hands_over
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.9:{instance.metrics_port}/metrics")).status_code == 200
            with pytest.raises(httpx.ConnectError):
                await http.get(f"http://127.0.0.1:{instance.metrics_port}/metrics")


async def _health(member: Member) -> int | None:
    entry = await member.bus.kv("registry").get("bot.bot-1")
    if entry is None or entry.value is None:
        return None
    return registry_pb2.Instance.FromString(entry.value).health


async def test_keys_stay_good_while_nats_is_away(platform: Platform, user_bus: bus.Bus) -> None:
    async with Member(platform.config("bot")) as member:
        keys = Keys("stays")
        token = await publish(user_bus, keys, member)
        await platform.nats.kill()
        try:
            assert member.keys.verify(token).user_id == 7
            assert member.keys.verify(keys.token("qingshan", 8, "AGENT")).user_id == 8
        finally:
            await platform.nats.start()
        await publish(user_bus, Keys("newer"), member)
        with pytest.raises(Refused) as caught:
            member.keys.verify(token)
        assert caught.value.reason == errors_pb2.REASON_TOKEN_INVALID


async def test_what_was_revoked_before_a_process_started_and_while_the_bus_was_away_is_known(
    platform: Platform, user_bus: bus.Bus
) -> None:
    def revocation(generation: int) -> bytes:
        message = user_events_pb2.Revocation(generation=generation)
        message.revoked_at.GetCurrentTime()
        return message.SerializeToString()

    keys = Keys("revoking")
    await user_bus.kv("revocations").put("qingshan.7", revocation(1))
    async with Member(platform.config("bot")) as member:
        # Known as soon as the member is: there is no moment in which the token would do.
        with pytest.raises(Refused):
            member.keys.revocations.check("qingshan", 7, 0)
        member.keys.load(keys.jwks())
        token = keys.token("qingshan", 7, "AGENT", gen=1)
        assert member.keys.verify(token).user_id == 7
        await platform.nats.kill()
        # The ones that were known stay in force.
        with pytest.raises(Refused):
            member.keys.verify(keys.token("qingshan", 7, "AGENT"))
        await platform.nats.start()
        await user_bus.kv("revocations").put("qingshan.7", revocation(2))
        async with asyncio.timeout(10):
            while _knows(member, token):
                await asyncio.sleep(0.02)


async def test_a_task_that_dies_ends_the_process_with_its_name(platform: Platform) -> None:
    async def fall_over() -> None:
        raise RuntimeError("tripped")

    async def go_home() -> None:
        return

    for work in (fall_over, go_home):
        async with Member(platform.config("bot")) as member:
            member.spawn("relay", work())
            with pytest.raises(TaskDied, match="'relay'"):
                async with asyncio.timeout(5):
                    await member.until(asyncio.Event())


async def test_tasks_end_last_first_and_after_the_servers(platform: Platform) -> None:
    ended: list[str] = []

    async def last(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async with Member(platform.config("bot")) as member:
        member.spawn("first", last("first"))
        member.spawn("second", last("second"))
        # They have to have begun before they can be ended.
        await asyncio.sleep(0)
    assert ended == ["second", "first"]


async def test_a_service_nobody_has_an_address_of_says_what_to_set(platform: Platform) -> None:
    async with Member(platform.config("bot", addresses={"chat": "127.0.0.1:1"})) as member:
        assert member.channel("chat") is member.channel("chat")
        with pytest.raises(ConfigError, match=r"addresses\.knowledge"):
            member.channel("knowledge")
    async with Member(platform.config("bridge")) as member:
        with pytest.raises(ConfigError, match="needs the setting `postgres`"):
            await member.postgres()


SERVICE = """
import asyncio
from contextlib import asynccontextmanager
from mesh.process.config import ServiceConfig
from mesh.process.run import run

@asynccontextmanager
async def app(member, config):
    async def tick():
        await asyncio.sleep({lives})
    member.spawn("ticker", tick())
    await member.serve()
    print("OPEN", flush=True)
    try:
        yield
    finally:
        print("CLOSED", flush=True)
        await asyncio.sleep({closing})

run(app, ServiceConfig)
"""


@asynccontextmanager
async def process(
    platform: Platform, folder: Path, *, lives: float = 60, closing: float = 0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A service in a process of its own."""
    (folder / "service.py").write_text(textwrap.dedent(SERVICE.format(lives=lives, closing=closing)))
    config: ServiceConfig = platform.config("archive")
    lines = [f'{key} = "{getattr(config, key)}"' for key in ("name", "instance", "identity", "nats_url")]
    (folder / "settings.toml").write_text("\n".join(lines))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(folder / "service.py"),
        "--config",
        str(folder / "settings.toml"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def _until_line(child: asyncio.subprocess.Process, wanted: bytes) -> None:
    assert child.stdout is not None
    async with asyncio.timeout(20):
        while (line := await child.stdout.readline()).strip() != wanted:
            assert line, f"ended before {wanted!r}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_process_in_order(platform: Platform, tmp_path: Path, number: signal.Signals) -> None:
    async with process(platform, tmp_path) as child:
        await _until_line(child, b"OPEN")
        child.send_signal(number)
        await _until_line(child, b"CLOSED")
        async with asyncio.timeout(10):
            assert await child.wait() == 0


async def test_a_second_signal_ends_it_at_once(platform: Platform, tmp_path: Path) -> None:
    async with process(platform, tmp_path, closing=60) as child:
        await _until_line(child, b"OPEN")
        child.terminate()
        await _until_line(child, b"CLOSED")
        child.terminate()
        async with asyncio.timeout(5):
            assert await child.wait() == 1


async def test_a_dead_task_ends_the_process_with_an_error(platform: Platform, tmp_path: Path) -> None:
    async with process(platform, tmp_path, lives=0.1) as child:
        async with asyncio.timeout(20):
            output, errors = await child.communicate()
        assert child.returncode == 1
        assert b"'ticker' has ended" in errors
        assert b"CLOSED" in output


async def test_settings_that_do_not_fit_say_which(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE.format(lives=1, closing=0)))
    (tmp_path / "settings.toml").write_text('name = "chat"\nintsance = "chat-1"\n')
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(tmp_path / "service.py"),
        "--config",
        str(tmp_path / "settings.toml"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await child.communicate()
    assert child.returncode == 2
    assert b"intsance: there is no such setting" in errors
