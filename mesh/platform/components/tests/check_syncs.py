"""Acknowledged means synchronized: count the server's fsyncs between what was sent and its acknowledgement.

Run by `make syncs`, because it wants strace and the right to trace; `test_nats_power_cut.py` shows the outcome.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.bus import Bus
from mesh.bus.tests.members import entry, member, until
from mesh.platform.durability import Durability
from mesh.testing import Platform

pytestmark = pytest.mark.store

ALONE = 100
ROUNDS = 10
LANES = 64
# `<thread> <seconds> fsync(10</…/streams/LOG/msgs/1.blk>) = 0 <0.000031>`
SYNC = re.compile(
    r"^\d+ +(\d+\.\d+) f(?:data)?sync\(\d+<[^>]*/streams/LOG/msgs/[^>]*>\) += 0 <(\d+\.\d+)>", re.MULTILINE
)


@asynccontextmanager
async def traced(pid: int, output: Path) -> AsyncIterator[None]:
    """Trace a process's synchronizations."""
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    options = ("-f", "-y", "-ttt", "-T", "-e", "trace=fsync,fdatasync", "-o", str(output))
    process = await asyncio.create_subprocess_exec(strace, *options, "-p", str(pid), stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    async with asyncio.timeout(10):
        assert b"attached" in await process.stderr.readline()
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def publish(bus: Bus, lane: int, name: str) -> tuple[float, float]:
    """Publish a message; return when it was sent and when it was acknowledged."""
    sent = time.time()
    await bus.publish(f"log.qingshan.{lane}", entry(lane), message_id=name)
    return sent, time.time()


async def test_every_acknowledgement_comes_after_a_synchronization(tmp_path: Path) -> None:
    platform = Platform(Durability.ALWAYS)
    output = tmp_path / "syncs"
    try:
        await platform.nats.start()
        assert platform.nats.pid is not None
        async with member(platform, "chat") as bus:
            # The fence of the first batch is not what is counted.
            await asyncio.gather(*(publish(bus, lane, f"warm-{lane}") for lane in range(LANES)))
            async with traced(platform.nats.pid, output):
                alone = [await publish(bus, 0, f"alone-{number}") for number in range(ALONE)]
                between = time.time()
                rounds = [
                    await asyncio.gather(*(publish(bus, lane, f"{number}-{lane}") for lane in range(LANES)))
                    for number in range(ROUNDS)
                ]
            await until(output.exists)
    finally:
        await platform.stop()
    syncs = [(float(begun), float(begun) + float(took)) for begun, took in SYNC.findall(output.read_text())]
    for sent, acknowledged in [*alone, *(each for one in rounds for each in one)]:
        assert any(sent <= begun and ended <= acknowledged for begun, ended in syncs)
    together = sum(begun > between for begun, _ in syncs)
    print(f"\n{ALONE} messages one by one: {len(syncs) - together} syncs of the log")
    print(f"{ROUNDS * LANES} messages, {LANES} at once: {together} syncs of the log")
    assert len(syncs) - together >= ALONE
    # That many wait together for one synchronization is what makes it cheap.
    assert ROUNDS <= together < ROUNDS * LANES / 4
