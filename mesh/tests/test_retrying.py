"""What fails for a while is retried, and fills no log."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from mesh.retrying import retrying
from mesh.telemetry.outage import Outage

pytestmark = pytest.mark.unit


class Flaky:
    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, result: str) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return result


def outage() -> Outage:
    return Outage(structlog.get_logger(), "read failed, retrying", "read again", session_id=5)


async def test_failures_are_retried_and_logged_once_until_one_succeeds() -> None:
    work = Flaky(*(OSError(str(number)) for number in range(4)))
    retry = retrying(outage(), OSError, first=0.001, longest=0.002)
    with capture_logs() as lines:
        assert await retry(work, "read") == "read"
        work.errors = [OSError("once more")]
        assert await retry(work, "read") == "read"
    assert work.calls == 7
    assert [line["event"] for line in lines] == ["read failed, retrying", "read again"] * 2


async def test_errors_that_are_not_named_are_raised() -> None:
    retry = retrying(outage(), OSError, but=(TimeoutError,), first=0.001)
    for error in (TimeoutError("a kind of OSError"), ValueError("another")):
        work = Flaky(OSError("retried"), error)
        with pytest.raises(type(error)):
            await retry(work, "read")
        assert work.calls == 2


async def test_a_retry_ends_after_a_failure_when_it_is_of_no_use_any_more() -> None:
    work = Flaky(OSError("first"), OSError("second"), OSError("third"))
    retry = retrying(outage(), OSError, first=0.001, ends=lambda: work.calls == 2)
    assert await retry(work, "read") is None
    assert work.calls == 2
