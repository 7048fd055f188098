"""People are shared out evenly over the slots, whatever their ids have in common."""

from __future__ import annotations

from collections import Counter

import pytest

from edge.bridge.lines import SLOTS, slot_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("worker", [0, 7, 1023])
@pytest.mark.parametrize("step_ms", [1, 17, 1000, 60_000])
def test_people_who_came_one_after_the_other_are_spread_over_all_slots(worker: int, step_ms: int) -> None:
    # Snowflake ids: milliseconds, worker, and a sequence that begins at 0 in each millisecond.
    start = 28_000_000_000
    shares = Counter(slot_of((start + number * step_ms) << 22 | worker << 12) for number in range(64 * SLOTS))
    assert len(shares) == SLOTS
    assert max(shares.values()) < 4 * 64
    assert all(0 <= slot < SLOTS for slot in shares)
