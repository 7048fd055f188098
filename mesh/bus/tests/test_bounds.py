"""A stream that is full, or whose disk is: a clear refusal, nothing lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.errors.v1 import errors_pb2

from mesh.bus import Bus, Delivery, Full
from mesh.bus.bounds import Bounds
from mesh.bus.provision import durables
from mesh.bus.tests.members import entry, member, until
from mesh.errors import refused_from
from mesh.testing import Platform

pytestmark = pytest.mark.store

SMALL = 4 * 2**20


@pytest.fixture(autouse=True)
async def fresh(platform: Platform) -> AsyncIterator[None]:
    """Streams that are empty, and wide again afterwards."""
    await platform.nats.wipe()
    yield
    await platform.nats.wipe()


async def fill(bus: Bus, tenant: str, first: int, most: int = 3000) -> int:
    """Publish until the stream refuses; return how many it has taken."""
    taken = 0
    for start in range(first, first + most, 50):

        async def one(number: int) -> None:
            nonlocal taken
            message = entry(number, tenant)
            message.message.content.text.text = "x" * 2000
            await bus.publish(f"log.{tenant}.1", message, message_id=f"{tenant}-{number}")
            taken += 1

        results = await asyncio.gather(*(one(number) for number in range(start, start + 50)), return_exceptions=True)
        errors = [each for each in results if isinstance(each, BaseException)]
        if errors:
            assert all(isinstance(each, Full) for each in errors)
            return taken
    raise AssertionError("it never refused")


async def archive_all(platform: Platform, count: int) -> None:
    """Acknowledge everything as all do that read the log."""
    for name in (each.name for each in durables() if each.stream == "LOG"):
        seen: set[int] = set()

        async def keep(deliveries: list[Delivery[LogEntry]]) -> None:
            seen.update(each.seq for each in deliveries)  # noqa: B023

        async with member(platform, name) as bus:
            task = asyncio.create_task(bus.consume_batches("LOG", name, ["log.*.*"], LogEntry, keep))
            await until(lambda: len(seen) >= count)  # noqa: B023
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_full_log_refuses_clearly_keeps_what_it_has_and_goes_on_once_the_archive_has_it(
    platform: Platform, chat: Bus, tenant: str
) -> None:
    bounds = Bounds(SMALL)
    await platform.nats.provision(bounds)
    taken = await fill(chat, tenant, 0)
    # Nobody has archived it: nothing is given up for new messages.
    await platform.nats.provision(bounds)
    assert (await chat.extent_of("LOG")).first_seq == 1
    stored, last = 0, 0
    while page := await chat.read(f"log.{tenant}.1", after_seq=last, limit=500):
        stored, last = stored + len(page), page[-1].seq
    assert stored == taken

    began = time.monotonic()
    with pytest.raises(Full) as refused:
        message = entry(1, tenant)
        message.message.content.text.text = "x" * 2000
        await chat.publish(f"log.{tenant}.1", message, message_id=f"{tenant}-more", timeout=10)
    assert time.monotonic() - began < 8, "it waited for room until its own deadline"
    told = refused_from(refused.value)
    assert told.reason == errors_pb2.REASON_STORAGE_FULL
    assert told.retry_after is not None

    await archive_all(platform, taken)
    await platform.nats.provision(bounds)
    assert (await chat.extent_of("LOG")).first_seq > taken // 4
    assert await fill(chat, tenant, 10_000) > taken // 4


async def test_control_relieves_the_log_before_anybody_is_refused(platform: Platform, chat: Bus, tenant: str) -> None:
    await platform.nats.provision(Bounds(SMALL))
    # Twice as much as there is room for.
    for part in range(8):
        await asyncio.gather(
            *(chat.publish(f"log.{tenant}.1", large(n, tenant), message_id=f"{tenant}-{part}-{n}") for n in range(400))
        )
        await archive_all(platform, 400)
        await platform.nats.provision(Bounds(SMALL))


def large(number: int, tenant: str) -> LogEntry:
    message = entry(number, tenant)
    message.message.content.text.text = "x" * 1000
    return message


async def test_streams_stop_before_their_disk_is_full_and_go_on_when_it_has_room(
    platform: Platform, chat: Bus, tenant: str, tmp_path: Path
) -> None:
    full = Bounds(SMALL, folder=tmp_path, reserve=2**60)
    await platform.nats.provision(full)
    with pytest.raises(Full):
        for number in range(3):
            await chat.publish(f"log.{tenant}.1", entry(number, tenant), message_id=f"{tenant}-{number}")
    await platform.nats.provision(Bounds(SMALL, folder=tmp_path, reserve=1))
    for number in range(3):
        await chat.publish(f"log.{tenant}.1", entry(number, tenant), message_id=f"{tenant}-again-{number}")
