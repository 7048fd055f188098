"""The disk of NATS is full to the last byte while people talk: nothing acknowledged is lost, and all goes on by itself.

The streams' bounds stop them before that (`mesh.bus.bounds`); here something else takes the last byte at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry

from mesh.bus import Bus, Full, Unavailable, decode
from mesh.bus.bounds import Bounds
from mesh.bus.tests.members import entry, member, until
from mesh.platform.components.nats import Nats
from mesh.platform.launch import ComponentLaunch
from mesh.platform.managed_process import ManagedProcess
from mesh.platform.state import ProcessState
from mesh.platform.terminal import Terminal
from mesh.testing import Platform

pytestmark = pytest.mark.store

LANES = 8
TENANT = "qingshan"


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[None]:
    """A disk of 96 MB. Needs root, to mount it."""
    folder.mkdir(parents=True)
    mount = ("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder))
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        yield
    finally:
        await asyncio.to_thread(subprocess.run, ("umount", "--lazy", str(folder)), check=True)


@asynccontextmanager
async def supervised(platform: Platform) -> AsyncIterator[ProcessState]:
    """NATS as the supervisor runs it, with less patience."""
    component = Nats(platform.folder, platform.nats.port, platform.nats.monitor_port)
    state = ProcessState("nats", "nats")
    process = ManagedProcess(state, ComponentLaunch(component), Terminal(), lambda: None, frozen_after=2)
    process.start()
    try:
        await process.ready()
        await platform.nats.provision(Bounds(64 * 2**20))
        yield state
    finally:
        await process.stop()


def take_the_last_byte(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 2**16)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")


class Talk:
    """Lanes of people who publish one message after the other, and go on to the next when one is refused."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.acknowledged: dict[int, int] = {}
        self.refused = 0
        self.unavailable = 0

    async def lane(self, number: int) -> None:
        while True:
            message = entry(number, TENANT)
            message.message.content.text.text = "x" * 2_000
            try:
                ack = await self._bus.publish(
                    f"log.{TENANT}.{number % LANES}", message, message_id=f"{number}", timeout=1
                )
            except Full:
                self.refused += 1
            except Unavailable:
                self.unavailable += 1
            else:
                self.acknowledged[number] = ack.seq
            number += LANES
            await asyncio.sleep(0.01)

    async def stored(self) -> dict[int, int]:
        """Return the sequences of what the log holds, by number."""
        found: dict[int, int] = {}
        for lane in range(LANES):
            seq = 0
            while page := await self._bus.read(f"log.{TENANT}.{lane}", after_seq=seq, limit=500):
                seq = page[-1].seq
                for each in page:
                    found[decode(each.data, each.headers, LogEntry).message.id] = each.seq
        return found


async def test_a_full_disk_refuses_with_the_reason_loses_nothing_and_recovers_by_itself() -> None:
    platform = Platform()
    disk = platform.folder.data("nats")
    try:
        async with small_disk(disk), supervised(platform) as state, member(platform, "chat") as bus:
            talk = Talk(bus)
            talking = [asyncio.create_task(talk.lane(number)) for number in range(LANES)]
            await until(lambda: len(talk.acknowledged) > 200)
            await asyncio.to_thread(take_the_last_byte, disk / "ballast")
            await until(lambda: talk.refused > LANES)
            # Without room, starting it again and again would help nobody.
            before = len(talk.acknowledged)
            await until(lambda: talk.refused > 4 * LANES)
            assert len(talk.acknowledged) == before
            assert state.restarts == 0
            # Senders are told why, but for those of the first moment: nobody takes it for an outage.
            assert talk.unavailable <= LANES

            (disk / "ballast").unlink()
            await until(lambda: len(talk.acknowledged) > before + 200, within=60)
            assert state.restarts == 1
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
            stored = await talk.stored()
            lost = {number: seq for number, seq in talk.acknowledged.items() if stored.get(number) != seq}
            assert lost == {}
    finally:
        await platform.stop()
