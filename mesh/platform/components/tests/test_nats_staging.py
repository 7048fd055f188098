"""NATS stages batches in memory, also after a restart, and takes them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh.bus.tests.members import entry, member
from mesh.platform.components.nats_staging import stage_in_memory
from mesh.testing import Platform

pytestmark = pytest.mark.store

LANES = 32


def links(platform: Platform) -> list[Path]:
    return sorted(platform.folder.data("nats").glob("jetstream/*/streams/*/batches"))


async def test_batches_are_staged_in_memory_after_each_start() -> None:
    platform = Platform()
    try:
        await platform.nats.start()
        for start in range(2):
            assert [link.parent.name for link in links(platform) if link.is_symlink()] == ["EVENT", "LOG"]
            assert all(link.resolve().is_relative_to("/dev/shm") for link in links(platform))  # noqa: S108
            async with member(platform, "chat") as bus:
                stored = await asyncio.gather(
                    *(
                        bus.publish(f"log.qingshan.{lane}", entry(lane), message_id=f"{start}-{lane}")
                        for lane in range(LANES)
                    )
                )
            assert len({ack.seq for ack in stored}) == LANES
            await platform.nats.restart()
    finally:
        await platform.stop()


async def test_a_folder_with_a_batch_under_way_is_left_until_it_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "jetstream" / "$G" / "streams" / "LOG" / "batches"
    batch = folder / "under-way"
    batch.mkdir(parents=True)
    staging = asyncio.create_task(stage_in_memory(tmp_path))
    await asyncio.sleep(0.1)
    assert batch.is_dir()
    batch.rmdir()
    await staging
    assert folder.is_symlink()
