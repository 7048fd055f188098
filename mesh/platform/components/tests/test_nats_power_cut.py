"""The power goes while people talk: what was acknowledged is there afterwards.

NATS keeps its files on a disk of its own, an image in a file. What the image holds at one moment is what a disk would
hold if the power went then: everything that was synchronized, and nothing of what only the operating system had.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry

from mesh.bus import Unavailable, decode
from mesh.bus.tests.members import entry, member, until
from mesh.platform.components import nats
from mesh.platform.durability import Durability
from mesh.testing import Platform
from mesh.testing.platform import ControlledNats

pytestmark = pytest.mark.store

LANES = 48
TENANT = "qingshan"


async def run(*command: str) -> None:
    """Run a system command; the test fails with its words when it fails."""
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Disk:
    """The disk of a platform's NATS. Needs root, for the loop device."""

    def __init__(self, platform: Platform) -> None:
        # In memory, so that synchronizing it costs little.
        self._folder = Path(tempfile.mkdtemp(prefix="octopus-disk-", dir="/dev/shm"))
        self._image = self._folder / "disk.img"
        self._mounted_at = platform.folder.data("nats")

    async def make(self) -> None:
        with self._image.open("wb") as file:
            file.truncate(4 * 2**30)
        await run("mkfs.ext4", "-q", str(self._image))
        await self.mount(self._image)

    async def mount(self, image: Path) -> None:
        self._mounted_at.mkdir(parents=True, exist_ok=True)
        await run("mount", "-o", "loop", str(image), str(self._mounted_at))

    async def synchronize(self) -> None:
        await run("sync", "--file-system", str(self._mounted_at))

    async def remove(self) -> None:
        await run("umount", "--lazy", str(self._mounted_at))

    def throw_away(self) -> None:
        shutil.rmtree(self._folder)

    async def as_it_is(self) -> Path:
        """Copy what the disk holds at this moment."""
        copy = self._image.with_name("after.img")
        await run("cp", "--sparse=always", str(self._image), str(copy))
        return copy


@asynccontextmanager
async def on_a_disk(durability: Durability) -> AsyncIterator[tuple[Platform, ControlledNats, Disk]]:
    platform = Platform()
    disk = Disk(platform)
    await disk.make()
    component = nats.Nats(platform.folder, platform.nats.port, platform.nats.monitor_port, durability=durability)
    server = ControlledNats(component, platform.identity)
    try:
        await server.start()
        # What NATS begins with is on the disk in any case.
        await disk.synchronize()
        yield platform, server, disk
    finally:
        server.resume()
        await server.kill()
        await disk.remove()
        disk.throw_away()
        await platform.stop()


async def cut_the_power_while_people_talk(platform: Platform, server: ControlledNats, disk: Disk) -> tuple[int, int]:
    """Return how many messages had been acknowledged, and how many of those are there after the restart."""
    acknowledged: dict[int, int] = {}
    cut = False

    async def talk(lane: int) -> None:
        number = lane
        while not cut:
            message = entry(number, TENANT)
            try:
                ack = await bus.publish(f"log.{TENANT}.{lane}", message, message_id=f"{number}", timeout=2)
            except Unavailable:
                continue
            if not cut:
                acknowledged[number] = ack.seq
            number += LANES

    async with member(platform, "chat") as bus:
        talking = [asyncio.create_task(talk(lane)) for lane in range(LANES)]
        await until(lambda: len(acknowledged) > 600, within=60)
        cut = True
        server.pause()
        after = await disk.as_it_is()
        server.resume()
        await server.kill()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
    await disk.remove()
    await disk.mount(after)
    await server.start()
    stored: dict[int, int] = {}
    async with member(platform, "chat") as bus:
        for lane in range(LANES):
            seq = 0
            while page := await bus.read(f"log.{TENANT}.{lane}", after_seq=seq, limit=500):
                seq = page[-1].seq
                for each in page:
                    stored[decode(each.data, each.headers, LogEntry).message.id] = each.seq
    kept = sum(stored.get(number) == seq for number, seq in acknowledged.items())
    return len(acknowledged), kept


async def test_a_power_cut_loses_nothing_that_was_acknowledged() -> None:
    async with on_a_disk(Durability.ALWAYS) as (platform, server, disk):
        acknowledged, kept = await cut_the_power_while_people_talk(platform, server, disk)
        assert kept == acknowledged
        # It goes on, behind everything that anybody may have seen.
        async with member(platform, "chat") as bus:
            assert await bus.publish(f"log.{TENANT}.1", entry(1), message_id="afterwards")


async def test_the_cut_takes_what_was_not_synchronized(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would see if NATS acknowledged before it synchronizes."""
    monkeypatch.setitem(nats._SYNC_INTERVAL, Durability.INTERVAL, "1h")
    async with on_a_disk(Durability.INTERVAL) as (platform, server, disk):
        acknowledged, kept = await cut_the_power_while_people_talk(platform, server, disk)
        assert kept < acknowledged
