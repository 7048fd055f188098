"""Leases of worker numbers in a real bucket, among real processes."""

import asyncio
import sys
import textwrap
from array import array
from pathlib import Path

import pytest

from mesh.bus import Bus
from mesh.bus.ids import IdSource, LeaseLost, lease
from mesh.bus.tests.members import member, until
from mesh.testing import Platform

pytestmark = pytest.mark.store

_PROCESS = textwrap.dedent("""
    import asyncio, sys
    from array import array
    from pathlib import Path
    from mesh.bus import connect
    from mesh.bus.ids import lease
    from mesh.identity.files import Identity

    async def main(url, identity, out, count):
        async with (
            connect(url, "chat", tls=Identity(Path(identity), "chat").client_context) as bus,
            lease(bus.kv("workers"), "test") as source,
        ):
            issued = array("q")
            while len(issued) < count:
                issued.extend(source.next() for _ in range(1000))
                await asyncio.sleep(0)
            Path(out).write_bytes(issued.tobytes())

    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
""")


async def test_three_processes_issue_a_million_ids_without_a_duplicate(platform: Platform, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(3)]
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROCESS, platform.nats_url, str(platform.identity), str(file), "334000"
        )
        for file in files
    ]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0, 0, 0]

    issued = [array("q", file.read_bytes()) for file in files]
    assert sum(len(each) for each in issued) == 1_002_000
    assert len({number for each in issued for number in each}) == 1_002_000
    assert all(number > 0 for each in issued for number in each)
    for each in issued:
        assert list(each) == sorted(each)


async def test_sources_at_the_same_time_have_different_numbers(chat: Bus) -> None:
    bucket = chat.kv("workers")
    async with lease(bucket, "a") as a, lease(bucket, "b") as b, lease(bucket, "c") as c:
        assert len({a.worker, b.worker, c.worker}) == 3


async def test_a_number_that_was_given_back_can_be_had_at_once_and_repeats_nothing(
    platform: Platform,
) -> None:
    await platform.nats.wipe()
    seen: list[int] = []
    async with member(platform, "chat") as bus:
        bucket = bus.kv("workers")
        for _ in range(5):
            async with lease(bucket, "again", numbers=1) as source:
                assert source.worker == 0
                seen += [source.next() for _ in range(20_000)]
                with pytest.raises(LeaseLost, match="all 1 Snowflake worker numbers"):
                    async with lease(bucket, "one too many", numbers=1):
                        pass

    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


async def test_who_cannot_renew_stops_issuing_and_begins_again_when_nats_is_back(
    platform: Platform,
) -> None:

    def stopped(source: IdSource) -> bool:
        try:
            source.next()
        except LeaseLost:
            return True
        return False

    async with member(platform, "chat") as bus, lease(bus.kv("workers"), "cut off", seconds=2) as source:
        before = source.next()
        await platform.nats.kill()
        await until(lambda: stopped(source), within=10)
        await platform.nats.start()
        await until(lambda: not stopped(source), within=15)
        assert source.next() > before


async def test_who_loses_its_number_to_another_takes_a_new_one(
    chat: Bus,
) -> None:
    bucket = chat.kv("workers")
    async with lease(bucket, "slow", seconds=1) as source:
        number = source.worker
        taken = await bucket.get(f"worker.{number}")
        assert taken is not None
        assert taken.value is not None
        await bucket.put(f"worker.{number}", taken.value)
        await until(lambda: source.worker != number)
        assert source.next() >> 12 & 1023 == source.worker
