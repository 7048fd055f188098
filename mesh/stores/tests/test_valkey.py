"""Valkey, killed and wiped."""

from collections.abc import AsyncIterator

import pytest
from octopus.errors.v1 import errors_pb2
from redis.exceptions import NoPermissionError

from mesh.errors import refused_from
from mesh.process.config import ServiceConfig
from mesh.stores import valkey
from mesh.stores.errors import Unavailable
from mesh.stores.valkey import Valkey
from mesh.testing import Platform

pytestmark = pytest.mark.store


@pytest.fixture
async def session(platform: Platform) -> AsyncIterator[Valkey]:
    config = platform.config("session", ServiceConfig)
    assert config.valkey_password_file is not None
    async with valkey.connect(platform.valkey_url, "session", config.valkey_password_file) as client:
        yield client


async def test_a_service_has_its_own_keys_only(session: Valkey) -> None:
    await session.set("session:t:key", "价值")
    assert await session.get("session:t:key") == "价值"

    with pytest.raises(NoPermissionError):
        await session.set("chat:t:key", "no")


async def test_a_script_survives_a_wipe(platform: Platform, session: Valkey) -> None:
    script = session.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert await script(keys=["session:t:count"], args=[2]) == 2
    assert await script(keys=["session:t:count"], args=[2]) == 4

    await platform.valkey.wipe()

    assert await script(keys=["session:t:count"], args=[3]) == 3


async def test_commands_go_on_after_valkey_was_killed_and_started_again(platform: Platform, session: Valkey) -> None:
    script = session.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
    await script(keys=["session:t:key"], args=["before"])

    await platform.valkey.kill()
    await platform.valkey.start()

    await script(keys=["session:t:key"], args=["after"])
    assert await session.get("session:t:key") == "after"


async def test_an_absent_valkey_is_unavailable_for_commands_scripts_and_pipelines(
    platform: Platform, session: Valkey
) -> None:
    script = session.register_script("return 1")
    await script(keys=[], args=[])
    await platform.valkey.kill()
    try:
        with pytest.raises(Unavailable) as refused:
            await session.get("session:t:key")
        assert refused_from(refused.value).reason == errors_pb2.REASON_UNAVAILABLE
        with pytest.raises(Unavailable):
            await script(keys=[], args=[])
        with pytest.raises(Unavailable):
            async with session.pipeline() as pipe:
                pipe.set("session:t:key", "1")
                pipe.get("session:t:key")
                await pipe.execute()
    finally:
        await platform.valkey.start()
    assert await script(keys=[], args=[]) == 1
