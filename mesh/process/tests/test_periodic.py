"""Recurring work by one instance alone: who does it, and who goes on when that one is killed or frozen."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mesh.bus.lease import LEASE_SECONDS, Lease
from mesh.bus.tests.members import member, until
from mesh.process.periodic import periodic
from mesh.testing import Platform

pytestmark = pytest.mark.store

# Appends a line for each step: the instance, when the step began.
_INSTANCE = textwrap.dedent("""
    import asyncio, sys, time
    from pathlib import Path
    from mesh.bus import connect
    from mesh.bus.lease import Lease
    from mesh.identity.files import Identity
    from mesh.process.periodic import periodic

    async def main(url, identity, instance, out):
        async def step():
            with open(out, "a") as file:
                file.write(f"{instance} {time.monotonic()}\\n")
        tls = Identity(Path(identity), "session").client_context
        async with connect(url, "session", tls=tls, timeout=60) as bus:
            lease = Lease(bus.kv("leases"), "session.count-sheep", instance)
            await periodic("count sheep", step, every=0.05, lease=lease)

    asyncio.run(main(*sys.argv[1:]))
""")

# A busy machine starts a process slowly.
_LONG = 60.0


class Instances:
    """Two copies of a service that do the same job, and what they wrote."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self._platform = platform
        self._out = folder / "steps"
        self._out.touch()
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        where = (self._platform.nats_url, str(self._platform.identity))
        self._running[name] = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _INSTANCE, *where, name, str(self._out), stdout=asyncio.subprocess.DEVNULL
        )

    def signal(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    async def end(self) -> None:
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    def steps(self) -> list[tuple[str, float]]:
        lines = (line.split() for line in self._out.read_text().splitlines())
        return [(name, float(at)) for name, at in lines]

    def last(self) -> str:
        """Who took the newest step."""
        steps = self.steps()
        return steps[-1][0] if steps else ""


@pytest.fixture
async def instances(platform: Platform, tmp_path: Path) -> AsyncIterator[Instances]:
    await platform.nats.wipe()
    made = Instances(platform, tmp_path)
    for name in ("session-1", "session-2"):
        await made.start(name)
    yield made
    await made.end()


def switches(steps: list[tuple[str, float]]) -> int:
    """How often the next step was somebody else's: nearly each time, if both worked at once.

    A busy machine may keep the holder from renewing, and then the lease changes hands without anybody's fault.
    """
    return sum(before != after for (before, _), (after, _) in itertools.pairwise(steps))


def other(name: str) -> str:
    return {"session-1": "session-2", "session-2": "session-1"}[name]


async def test_one_of_two_instances_works_and_the_other_goes_on_when_it_is_frozen_or_killed(
    instances: Instances,
) -> None:
    await until(lambda: len(instances.steps()) > 10, within=_LONG)
    first = instances.last()
    assert switches(instances.steps()) <= 2
    instances.signal(first, signal.SIGSTOP)
    await until(lambda: instances.last() == other(first), within=_LONG)
    instances.signal(first, signal.SIGCONT)
    seen = len(instances.steps())
    await until(lambda: len(instances.steps()) > seen + 20, within=_LONG)
    taken_over = next(place for place, (name, _) in enumerate(instances.steps()) if name == other(first))
    # It may have been frozen inside a step; it begins none.
    assert switches(instances.steps()[taken_over:]) <= 2

    instances.signal(other(first), signal.SIGKILL)
    await until(lambda: instances.last() == first, within=_LONG)


async def test_who_ends_in_order_hands_over_before_its_lease_would_end(platform: Platform) -> None:
    await platform.nats.wipe()
    steps: list[str] = []

    async def instance(name: str) -> None:
        async def step() -> None:
            steps.append(name)

        async with member(platform, "session") as bus:
            await periodic("test", step, every=0.02, lease=Lease(bus.kv("leases"), "session.test", name))

    one = asyncio.create_task(instance("one"))
    await until(lambda: bool(steps))
    two = asyncio.create_task(instance("two"))
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    # It was given back: the bucket says so at once.
    async with member(platform, "operator") as bus:
        async with asyncio.timeout(_LONG):
            while "two" not in steps:
                entry = await bus.kv("leases").get("session.test")
                assert entry is None or entry.value is None or entry.value.startswith(b"two/")
                await asyncio.sleep(0.02)
    assert "one" not in steps[steps.index("two") :]
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)


async def test_work_stops_while_nats_is_away_and_goes_on_when_it_is_back(platform: Platform) -> None:
    await platform.nats.wipe()
    steps: list[float] = []

    async def step() -> None:
        steps.append(time.monotonic())

    async with member(platform, "session") as bus:
        lease = Lease(bus.kv("leases"), "session.test", "session-1")
        job = asyncio.create_task(periodic("test", step, every=0.02, lease=lease))
        await until(lambda: lease.held and bool(steps))
        await platform.nats.kill()
        await until(lambda: not lease.held, within=LEASE_SECONDS + 5)
        stopped = len(steps)
        await platform.nats.start()
        await until(lambda: len(steps) > stopped + 2)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_a_step_that_fails_is_logged_once_and_tried_again() -> None:
    failures = [ConnectionError("away"), ConnectionError("still away"), None, ValueError("new")]
    done = asyncio.Event()

    async def step() -> None:
        if not failures:
            done.set()
            return
        if (failure := failures.pop(0)) is not None:
            raise failure

    with capture_logs() as logged:
        job = asyncio.create_task(periodic("test", step, every=0))
        async with asyncio.timeout(5):
            await done.wait()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    assert [line["event"] for line in logged if line.get("job") == "test"] == [
        "periodic job failed, retrying",
        "periodic job succeeded again",
        "periodic job failed, retrying",
        "periodic job succeeded again",
    ]
