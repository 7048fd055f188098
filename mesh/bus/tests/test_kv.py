"""Key-value buckets on a real NATS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from mesh.bus import Bus, Conflict, Entry, KeyValue
from mesh.bus.tests.members import member, until
from mesh.testing import Platform

pytestmark = pytest.mark.store

# In the bucket of the worker numbers, members have keys too.
OWN = "test.*"


@contextlib.asynccontextmanager
async def watching(bucket: KeyValue, keys: str = ">") -> AsyncIterator[list[Entry | None]]:
    """What a watch tells, from when it has told what was there."""
    told: list[Entry | None] = []

    async def follow() -> None:
        async for update in bucket.watch(keys):
            told.append(update)  # noqa: PERF401  # it never ends

    task = asyncio.create_task(follow())
    try:
        await until(lambda: None in told)
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
async def wiped(platform: Platform) -> None:
    await platform.nats.wipe()


async def test_a_key_is_put_read_updated_and_deleted(chat: Bus) -> None:
    bucket = chat.kv("registry")
    first = await bucket.put("chat.a", b"1")
    assert await bucket.get("chat.a") == Entry("chat.a", b"1", first)
    assert await bucket.get("chat.b") is None

    second = await bucket.update("chat.a", b"2", revision=first)
    with pytest.raises(Conflict):
        await bucket.update("chat.a", b"3", revision=first)
    with pytest.raises(Conflict):
        await bucket.create("chat.a", b"3")
    assert await bucket.get("chat.a") == Entry("chat.a", b"2", second)

    await bucket.delete("chat.a")
    assert await bucket.get("chat.a") is None
    assert await bucket.create("chat.a", b"4") > second
    assert [each.value for each in await bucket.entries()] == [b"4"]


async def test_of_many_creators_one_succeeds(chat: Bus) -> None:
    bucket = chat.kv("workers")

    results = await asyncio.gather(
        *(bucket.create("test.0", str(n).encode()) for n in range(20)), return_exceptions=True
    )

    assert sum(isinstance(each, int) for each in results) == 1
    assert sum(isinstance(each, Conflict) for each in results) == 19


async def test_a_key_that_is_not_renewed_is_forgotten_and_a_watch_tells_so(chat: Bus) -> None:
    bucket = chat.kv("registry")
    await bucket.put("chat.a", b"1")
    async with watching(bucket) as told:
        assert told[0] == Entry("chat.a", b"1", 1)
        await until(lambda: any(each is not None and each.value is None for each in told), within=10)
    assert await bucket.get("chat.a") is None


async def test_a_watch_tells_what_is_there_and_then_every_change(chat: Bus) -> None:
    bucket = chat.kv("workers")
    for number in range(3):
        await bucket.put(f"test.{number}", b"old")
    await bucket.delete("test.2")
    async with watching(bucket, OWN) as told:
        there = [each for each in told[: told.index(None)] if each is not None and each.value is not None]
        assert [each.key for each in there] == ["test.0", "test.1"]
        await bucket.put("test.1", b"new")
        await bucket.delete("test.0")
        await until(lambda: len(told) >= told.index(None) + 3)
        news = told[told.index(None) + 1 :]
        assert [(each.key, each.value) for each in news if each] == [("test.1", b"new"), ("test.0", None)]


async def test_a_watch_survives_a_killed_nats_and_tells_what_it_missed(platform: Platform, chat: Bus) -> None:
    bucket = chat.kv("workers")
    for number in range(3):
        await bucket.put(f"test.{number}", b"old")
    async with watching(bucket, OWN) as told:
        told.clear()
        await platform.nats.kill()
        await platform.nats.start()
        async with member(platform, "session") as other:
            await other.kv("workers").put("test.1", b"new")
            await other.kv("workers").delete("test.0")
        await until(lambda: None in told)
        await until(lambda: len([each for each in told if each]) >= 2)
        latest = {each.key: each.value for each in told if each}
        assert latest == {"test.1": b"new", "test.0": None}

        await bucket.put("test.2", b"newer")
        await until(lambda: any(each is not None and each.value == b"newer" for each in told))


async def test_a_watch_notices_a_bucket_that_was_wiped(platform: Platform, chat: Bus) -> None:
    bucket = chat.kv("workers")
    await bucket.put("test.1", b"old")
    async with watching(bucket, OWN) as told:
        told.clear()
        await platform.nats.wipe()
        async with member(platform, "session") as other:
            await other.kv("workers").put("test.2", b"new")
        await until(lambda: {each.key: each.value for each in told if each} == {"test.1": None, "test.2": b"new"})
