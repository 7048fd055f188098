"""Those who connect take turns, so that they do not slow down those who talk."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from octopus.errors.v1 import errors_pb2

from services.chat.attach_queue import AttachQueue, TooManyConnecting

pytestmark = pytest.mark.unit

# Longer than any test: what begins before it has not begun because of it.
_NEVER = 3600.0


class Turns:
    """People who take turns, each for as long as a test wants."""

    def __init__(self, queue: AttachQueue) -> None:
        self.queue = queue
        self.began: list[int] = []
        self._over: dict[int, asyncio.Event] = {}
        self._news = asyncio.Event()

    async def take(self, number: int) -> None:
        """Take a turn until it is said to be over."""
        over = self._over[number] = asyncio.Event()
        async with self.queue.turn():
            self.began.append(number)
            self._news.set()
            await over.wait()

    def end(self, number: int) -> None:
        """End a turn."""
        self._over[number].set()

    async def until(self, began: list[int]) -> None:
        """Wait until these turns have begun, and no others."""
        async with asyncio.timeout(30):
            while len(self.began) < len(began):
                self._news.clear()
                await self._news.wait()
        assert self.began == began


async def _idle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_those_who_connect_take_one_turn_after_the_other_in_the_order_of_asking() -> None:
    turns = Turns(AttachQueue(gap=_NEVER, wait=_NEVER))
    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(turns.take(number))
        for number in range(5):
            await turns.until(list(range(number + 1)))
            await _idle()
            assert len(turns.began) == number + 1
            turns.end(number)
    assert turns.queue.waiting == 0


async def test_a_turn_that_lasts_holds_up_others_no_longer_than_the_gap_and_few_are_under_way() -> None:
    turns = Turns(AttachQueue(at_once=3, gap=0.01, wait=_NEVER))
    async with asyncio.TaskGroup() as tasks:
        for number in range(6):
            tasks.create_task(turns.take(number))
        await turns.until([0, 1, 2])
        # The gap has passed more than once, and still no more are under way.
        await asyncio.sleep(0.05)
        assert turns.began == [0, 1, 2]
        turns.end(1)
        await turns.until([0, 1, 2, 3])
        for number in (0, 2, 3):
            turns.end(number)
        await turns.until([0, 1, 2, 3, 4, 5])
        for number in (4, 5):
            turns.end(number)


async def test_a_turn_is_followed_by_a_rest_as_long_as_itself() -> None:
    loop = asyncio.get_running_loop()
    queue = AttachQueue(gap=_NEVER, wait=_NEVER)
    times: list[tuple[float, float]] = []

    async def take() -> None:
        async with queue.turn():
            began = loop.time()
            await asyncio.sleep(0.02)
            times.append((began, loop.time()))

    await asyncio.gather(*(take() for _ in range(4)))
    for (began, ended), (following, _) in itertools.pairwise(times):
        # The loop's clock may call a little early.
        assert following - ended >= (ended - began) * 0.8


async def test_who_would_wait_too_long_is_told_a_time_of_their_own() -> None:
    queue = AttachQueue(at_once=1, gap=0.001, wait=0.1)
    async with queue.turn():
        results = await asyncio.gather(*(queue.turn().__aenter__() for _ in range(50)), return_exceptions=True)
    assert queue.waiting == 0
    after = []
    for result in results:
        assert isinstance(result, TooManyConnecting)
        assert result.reason == errors_pb2.REASON_UNAVAILABLE
        assert result.retry_after is not None
        after.append(result.retry_after)
    # No two of them come back at once, and none at once.
    assert len({round(each, 4) for each in after}) == len(after)
    assert min(after) >= 0.1
    # Once it is quiet, everybody is let in again.
    async with queue.turn():
        pass


async def test_one_who_leaves_the_queue_holds_up_nobody() -> None:
    turns = Turns(AttachQueue(gap=_NEVER, wait=_NEVER))
    tasks = [asyncio.create_task(turns.take(number)) for number in range(3)]
    await turns.until([0])
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    turns.end(0)
    await turns.until([0, 2])
    turns.end(2)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert turns.queue.waiting == 0
