"""A task that calls Valkey can be cancelled."""

import asyncio
import random

import pytest

from mesh.process.member import Member
from mesh.testing import Platform

pytestmark = pytest.mark.store


async def test_a_cancelled_task_ends_whatever_its_command_was_doing(platform: Platform) -> None:
    async with Member(platform.config("session")) as member:
        valkey = await member.valkey()

        async def call_on() -> None:
            while True:
                await valkey.exists("session:nothing")

        for _ in range(100):
            task = asyncio.create_task(call_on())
            await asyncio.sleep(random.uniform(0.001, 0.004))
            task.cancel()
            ended, _ = await asyncio.wait({task}, timeout=5)
            assert ended
