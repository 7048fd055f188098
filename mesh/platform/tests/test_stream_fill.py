"""What `octopus status` and `octopus doctor` say of streams that fill up, with a real NATS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.bus import Full
from mesh.bus.bounds import Bounds
from mesh.bus.tests.members import entry, member
from mesh.platform import doctor, ports
from mesh.platform.folder import Folder
from mesh.platform.state import State
from mesh.platform.status import Status, as_text, status
from mesh.testing import Platform

pytestmark = pytest.mark.store

SMALL = 4 * 2**20


@pytest.fixture(autouse=True)
async def fresh(platform: Platform) -> AsyncIterator[None]:
    """Streams that are empty, and wide again afterwards."""
    await platform.nats.wipe()
    yield
    await platform.nats.wipe()


@pytest.fixture
def folder(platform: Platform, tmp_path: Path) -> Folder:
    """A folder in which this process is the supervisor, and the tests' NATS runs."""
    found = Folder(tmp_path)
    found.make()
    state = State.read(found)
    state.supervisor = os.getpid()
    state.ports["nats-monitor"] = platform.nats.monitor_port
    state.save()
    found.lock.write_text(str(os.getpid()))
    return found


async def publish(platform: Platform, until_fill: float) -> None:
    """Publish to the log until it is about so full, or refuses."""
    most = int(SMALL * 0.6 * until_fill)
    async with member(platform, "chat") as bus:
        for number in range(most // 8_400):
            message = entry(number)
            message.message.content.text.text = "x" * 8_000
            try:
                await bus.publish("log.qingshan.1", message, message_id=f"{number}")
            except Full:
                return


async def seen(folder: Folder) -> tuple[Status, list[doctor.Finding]]:
    """Return the status, and what the doctor says of the streams."""
    found = await asyncio.to_thread(status, folder)
    findings = await asyncio.to_thread(lambda: list(doctor.examine(folder, ports.choose())))
    return found, [finding for finding in findings if finding.what == "streams"]


async def test_a_stream_is_warned_of_before_it_is_full_and_told_when_it_is(platform: Platform, folder: Folder) -> None:
    await platform.nats.provision(Bounds(SMALL))
    found, findings = await seen(folder)
    assert [row["name"] for row in found["streams"]] == ["DEAD", "EVENT", "LOG", "NOTICE"]
    assert [finding.grade for finding in findings] == ["ok"]
    assert "!" not in as_text(found)

    await publish(platform, 0.9)
    found, findings = await seen(folder)
    (log,) = [row for row in found["streams"] if row["name"] == "LOG"]
    assert 0.8 < log["fill"] < 1
    assert not log["full"]
    assert log["behind"]["archive"] > 0
    assert "! LOG is " in as_text(found)
    assert "`octopus logs " in as_text(found)
    assert [finding.grade for finding in findings] == ["note", "ok"]

    await publish(platform, 2)
    found, findings = await seen(folder)
    assert "! LOG is full: senders are refused with STORAGE_FULL" in as_text(found)
    assert [finding.grade for finding in findings] == ["wrong", "ok"]


async def test_streams_that_stopped_for_their_disk_are_told_as_full(
    platform: Platform, folder: Folder, tmp_path: Path
) -> None:
    await platform.nats.provision(Bounds(SMALL, folder=tmp_path, reserve=2**60))
    found, findings = await seen(folder)
    assert [row["name"] for row in found["streams"] if row["full"]] == ["EVENT", "LOG"]
    assert "The disk has too little room" in as_text(found)
    assert findings[0].grade == "wrong"


async def test_a_bus_that_does_not_answer_costs_the_status_a_second_at_most(platform: Platform, folder: Folder) -> None:
    platform.nats.pause()
    try:
        async with asyncio.timeout(10):
            found = await asyncio.to_thread(status, folder)
    finally:
        platform.nats.resume()
    assert found["streams"] == []
    assert found["supervisor"] == os.getpid()
