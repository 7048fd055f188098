"""What a stream that does not acknowledge says of itself: it cannot be written, or something else is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from mesh.bus.replies import Replies, Reply
from mesh.bus.unwritable import Streams, quiet_for

pytestmark = pytest.mark.unit


def info(*, cluster: dict[str, Any] | None = None) -> dict[str, Any]:
    """A stream that stored its last message 4 seconds ago."""
    return {
        "state": {"last_ts": "2026-11-25T17:30:01.793293012Z"},
        "ts": "2026-11-25T17:30:05.793293Z",
        "cluster": cluster or {"leader": "octopus"},
    }


def peers(*away: bool) -> dict[str, Any]:
    return {"leader": "a", "replicas": [{"active": 30_000_000_000 if each else 1_000, "name": "x"} for each in away]}


def test_a_stream_is_quiet_since_its_last_message() -> None:
    assert quiet_for(info()) == pytest.approx(4)
    assert quiet_for(info(cluster=peers(False, True))) == pytest.approx(4)


@pytest.mark.parametrize("cluster", [peers(True, True), {"leader": ""}])
def test_a_stream_without_a_majority_is_not_taken_for_full(cluster: dict[str, Any]) -> None:
    assert quiet_for(info(cluster=cluster)) == 0


def test_a_stream_that_was_never_written_is_quiet() -> None:
    assert quiet_for(info() | {"state": {"last_ts": "0001-01-01T00:00:00Z"}}) > 1e6


@pytest.mark.parametrize(
    ("code", "description", "full"),
    [
        (10076, "JetStream not enabled", True),
        (10023, "insufficient resources", True),
        (10077, "write msgs/1.blk: no space left on device", True),
        (10059, "stream not found", False),
        (10008, "JetStream system temporarily unavailable", False),
    ],
)
def test_an_error_means_a_lack_of_room_or_something_else(code: int, description: str, *, full: bool) -> None:
    error = {"code": 503, "err_code": code, "description": description}
    assert (quiet_for({"error": error}) > 0) is full


class Answers(Replies):
    """Answers each request with the next state of the stream, and fails when there is none left."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)

    async def request(self, subject: str, payload: bytes, headers: Mapping[str, str] | None, timeout: float) -> Reply:
        if not self._states:
            raise TimeoutError
        return Reply(orjson.dumps(self._states.pop(0)), {})


@pytest.mark.parametrize(
    ("states", "full"),
    [
        ((info(), info()), True),
        # It had been frozen, and stores what came meanwhile only now.
        ((info(), info() | {"state": {"last_ts": "2026-11-25T17:30:05.7Z"}}), False),
        ((info(),), False),
    ],
)
async def test_a_stream_is_full_when_it_stores_nothing_while_it_is_asked_twice(
    states: tuple[dict[str, Any], ...], *, full: bool
) -> None:
    assert await Streams(Answers(*states)).is_unwritable("LOG", unanswered=2, timeout=5) is full
