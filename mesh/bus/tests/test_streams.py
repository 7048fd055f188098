"""The table of streams and buckets against a real NATS."""

import asyncio

import pytest

from mesh.bus import streams
from mesh.bus.streams import BUCKETS, STREAMS, stream_of
from mesh.bus.tests.members import member
from mesh.testing import Platform

pytestmark = pytest.mark.store


async def test_many_processes_that_start_at_once_make_every_stream_once(platform: Platform) -> None:
    await platform.nats.wipe()

    async def start(name: str) -> None:
        async with member(platform, name):
            pass

    await asyncio.gather(*(start(name) for name in ("chat", "session", "bot", "archive", "control", "bridge")))

    async with member(platform, "operator") as operator:
        there = {each.config.name for each in await operator._client.jetstream().streams_info()}
    assert there == {each.name for each in STREAMS} | {each.stream for each in BUCKETS}


async def test_what_is_as_wanted_is_left_alone_and_what_differs_is_put_right(platform: Platform) -> None:
    async with member(platform, "operator") as operator:
        manager = operator._client.jetstream()
        for config in (*(each.config() for each in STREAMS), *(each.config() for each in BUCKETS)):
            actual = (await manager.stream_info(str(config.name))).config
            assert not streams.differs(actual, config)

        [log] = [each.config() for each in STREAMS if each.name == "LOG"]
        await manager.update_stream(log.evolve(max_age=86_400.0))
        assert streams.differs((await manager.stream_info("LOG")).config, log)
        await streams.ensure(operator._client)
        assert not streams.differs((await manager.stream_info("LOG")).config, log)


def test_a_subject_belongs_to_one_stream() -> None:
    assert stream_of("log.qingshan.1") == "LOG"
    assert stream_of("event.session.qingshan.1") == "EVENT"
    assert stream_of("notice.qingshan.1") == "NOTICE"
    assert stream_of("dead.LOG.bot") == "DEAD"
    assert stream_of("$KV.workers.worker.1") == "KV_workers"
    for stranger in ("log.qingshan", "log.qingshan.1.2", "live.qingshan.1.message", "event", ""):
        with pytest.raises(ValueError, match="no stream stores"):
            stream_of(stranger)
