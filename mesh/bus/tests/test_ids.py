"""Ids: the arithmetic of one source, at its edges."""

import pytest

from mesh.bus.ids import EPOCH_MS, IdSource, LeaseLost, time_of

pytestmark = pytest.mark.unit

START = EPOCH_MS + 1_000_000


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def source(clock: Clock, *, worker: int = 7, lease_ms: int = 30_000) -> IdSource:
    made = IdSource(clock)
    made.grant(worker, clock.now, clock.now + lease_ms)
    return made


def test_an_id_says_when_it_was_made_and_is_a_positive_int64() -> None:
    number = source(Clock(START)).next()

    assert time_of(number) == START / 1000
    assert 0 < number < 2**63
    assert number >> 12 & 1023 == 7


def test_the_last_possible_id_is_an_int64() -> None:
    last = EPOCH_MS + 2**41 - 1
    made = source(Clock(last), worker=1023)
    numbers = [made.next() for _ in range(4096)]

    assert numbers[-1] == 2**63 - 1


def test_ids_grow_while_the_clock_stands_still() -> None:
    made = source(Clock(START))

    numbers = [made.next() for _ in range(10_000)]

    assert numbers == sorted(set(numbers))


def test_ids_grow_when_the_clock_is_set_back() -> None:
    clock = Clock(START)
    made = source(clock)
    numbers = [made.next()]
    for back in (1, 5_000, 900_000):
        clock.now = START - back
        numbers += [made.next() for _ in range(5_000)]

    assert numbers == sorted(set(numbers))


def test_no_id_is_issued_at_or_after_the_end_of_the_lease_until_it_is_prolonged() -> None:
    clock = Clock(START)
    made = source(clock, lease_ms=10)
    clock.now = START + 9
    made.next()
    clock.now = START + 10
    with pytest.raises(LeaseLost, match="is NATS reachable"):
        made.next()

    made.extend(START + 100)
    assert time_of(made.next()) * 1000 >= START + 10


def test_an_overflow_cannot_run_past_the_lease() -> None:
    made = source(Clock(START), lease_ms=2)

    issued: list[int] = []
    with pytest.raises(LeaseLost):
        issued.extend(made.next() for _ in range(20_000))

    numbers = source(Clock(START), lease_ms=2)
    assert len({numbers.next() for _ in range(2 * 4096)}) == 2 * 4096


def test_the_next_holder_of_a_number_begins_where_the_lease_of_the_one_before_ended() -> None:
    clock = Clock(START)
    first = source(clock, lease_ms=50)
    clock.now = START + 49
    old = [first.next() for _ in range(4000)]

    # The next holder's clock is behind.
    second = IdSource(Clock(START - 60_000))
    second.grant(7, START + 50, START + 30_000)
    new = [second.next() for _ in range(4000)]

    assert max(old) < min(new)


def test_a_source_without_a_lease_issues_nothing() -> None:
    with pytest.raises(LeaseLost):
        IdSource(Clock(START)).next()
