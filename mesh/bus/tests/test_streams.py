"""The table of streams and buckets against a real NATS."""

import asyncio

import pytest
from nats.js.api import StorageType

from mesh.bus.bounds import Bounds
from mesh.bus.provision import differs, durables, provision
from mesh.bus.streams import BUCKETS, STREAMS, stream_of
from mesh.bus.tests.members import member
from mesh.testing import Platform

pytestmark = pytest.mark.store


async def test_members_wait_for_the_streams_that_control_makes(platform: Platform) -> None:
    async with member(platform, "operator") as operator:
        for each in await operator._client.jetstream().streams_info():
            await operator._client.jetstream().delete_stream(str(each.config.name))

    async def start(name: str) -> None:
        async with member(platform, name):
            pass

    waiting = [asyncio.create_task(start(name)) for name in ("chat", "session", "bot", "archive", "bridge")]
    done, _ = await asyncio.wait(waiting, timeout=0.5)
    assert not done
    await platform.nats.provision()
    await asyncio.gather(*waiting)

    async with member(platform, "operator") as operator:
        manager = operator._client.jetstream()
        there = {each.config.name for each in await manager.streams_info()}
        assert there == {each.name for each in STREAMS} | {each.stream for each in BUCKETS}
        for durable in durables():
            assert await manager.consumer_info(durable.stream, durable.name)


async def test_two_control_processes_may_make_the_streams_at_once(platform: Platform) -> None:
    await platform.nats.wipe()
    await asyncio.gather(*(platform.nats.provision() for _ in range(4)))


async def test_what_is_as_wanted_is_left_alone_and_what_differs_is_put_right(platform: Platform) -> None:
    async with member(platform, "operator") as operator:
        manager = operator._client.jetstream()
        for config in (*(each.config(-1) for each in STREAMS), *(each.config() for each in BUCKETS)):
            actual = (await manager.stream_info(str(config.name))).config
            assert not differs(actual, config)
        for durable in durables():
            assert not differs((await manager.consumer_info(durable.stream, durable.name)).config, durable.config())

        [log] = [each.config(-1) for each in STREAMS if each.name == "LOG"]
        await manager.update_stream(log.evolve(max_age=86_400.0))
        assert differs((await manager.stream_info("LOG")).config, log)
        await provision(operator._client, Bounds(2 * 2**30))
        assert not differs((await manager.stream_info("LOG")).config, log)


async def test_a_stream_that_lay_in_files_moves_to_memory(platform: Platform) -> None:
    async with member(platform, "operator") as operator:
        manager = operator._client.jetstream()
        [notice] = [each.config(-1) for each in STREAMS if each.name == "NOTICE"]
        await manager.delete_stream("NOTICE")
        await manager.add_stream(notice.evolve(storage=StorageType.FILE, max_bytes=-1))
        await platform.nats.provision()
        assert (await manager.stream_info("NOTICE")).config.storage == StorageType.MEMORY
        # Nothing of it lies on the disk any more.
        assert not (platform.folder.data("nats") / "jetstream/$G/streams/NOTICE/msgs").exists()


def test_a_subject_belongs_to_one_stream() -> None:
    assert stream_of("log.qingshan.1") == "LOG"
    assert stream_of("event.session.qingshan.1") == "EVENT"
    assert stream_of("notice.qingshan.1") == "NOTICE"
    assert stream_of("dead.LOG.bot") == "DEAD"
    assert stream_of("$KV.workers.worker.1") == "KV_workers"
    for stranger in ("log.qingshan", "log.qingshan.1.2", "live.qingshan.1.message", "event", ""):
        with pytest.raises(ValueError, match="no stream stores"):
            stream_of(stranger)
