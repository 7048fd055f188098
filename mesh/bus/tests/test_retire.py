"""Consumers that no manifest names: deleted when nothing is lost with them, and nobody may still use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from mesh.bus import Bus
from mesh.bus.bounds import Bounds
from mesh.bus.provision import Durable, durables, provision
from mesh.bus.retire import Retired
from mesh.bus.tests.members import entry, member
from mesh.testing import Platform

pytestmark = pytest.mark.store

# A service that was there in the last release.
GONE = Durable("LOG", "rating", ("log.*.*",))


@pytest_asyncio.fixture
async def control(platform: Platform) -> AsyncIterator[Bus]:
    """The control process on a NATS that holds nothing, which is left so."""
    await platform.nats.wipe()
    async with member(platform, "control") as bus:
        yield bus
    await platform.nats.wipe()


@pytest_asyncio.fixture
async def operator(platform: Platform, control: Bus) -> AsyncIterator[JetStreamContext]:
    """Who may make consumers that no manifest names; one of a retired service is there."""
    async with member(platform, "operator") as bus:
        manager = bus._client.jetstream()
        await manager.add_consumer("LOG", GONE.config())
        yield manager


async def check(control: Bus, retired: Retired | None = None) -> None:
    """Provision once; whoever is unused, is so for long enough."""
    impatient = Retired(made_before_s=0, unused_for_s=0)
    await provision(control._client, Bounds(2 * 2**30), retired=retired or impatient)


async def is_there(manager: JetStreamContext, name: str = GONE.name) -> bool:
    try:
        await manager.consumer_info("LOG", name)
    except NotFoundError:
        return False
    return True


async def test_a_consumer_that_no_manifest_names_is_deleted_and_those_of_the_manifests_stay(
    control: Bus, operator: JetStreamContext
) -> None:
    await check(control)
    assert not await is_there(operator)
    for each in durables():
        assert await operator.consumer_info(each.stream, each.name)


async def test_a_consumer_from_before_there_was_a_mark_is_deleted(control: Bus, operator: JetStreamContext) -> None:
    unmarked = Durable("LOG", "older", ("log.*.*",)).config().evolve(metadata=None)
    await operator.add_consumer("LOG", unmarked)
    await check(control)
    assert not await is_there(operator, "older")


async def test_what_an_operator_made_stays(control: Bus, operator: JetStreamContext) -> None:
    await operator.add_consumer("LOG", api.ConsumerConfig(durable_name="inspection"))
    await check(control)
    assert await is_there(operator, "inspection")


async def test_a_consumer_that_an_old_version_asks_for_messages_stays(control: Bus, operator: JetStreamContext) -> None:
    asking = asyncio.create_task((await operator.pull_subscribe_bind(GONE.name, "LOG")).fetch(timeout=30))
    async with asyncio.timeout(30):
        while not (await operator.consumer_info("LOG", GONE.name)).num_waiting:
            await asyncio.sleep(0.02)
    await check(control)
    assert await is_there(operator)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_consumer_stays_until_the_stream_has_forgotten_what_it_was_given(
    platform: Platform, control: Bus, operator: JetStreamContext
) -> None:
    async with member(platform, "chat") as chat:
        for number in range(2):
            await chat.publish("log.qingshan.1", entry(number), message_id=f"retired-{number}")
    [first] = await (await operator.pull_subscribe_bind(GONE.name, "LOG")).fetch(1, timeout=10)
    await first.ack_sync()
    await check(control)
    assert await is_there(operator)

    await platform.nats.forget("LOG", before=2)
    await check(control)
    assert not await is_there(operator)


async def test_a_consumer_that_was_just_made_or_just_left_stays(control: Bus, operator: JetStreamContext) -> None:
    await check(control, Retired(unused_for_s=0))
    assert await is_there(operator)
    left = Retired(made_before_s=0)
    await check(control, left)
    await check(control, left)
    assert await is_there(operator)
