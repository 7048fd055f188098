"""In a cluster, a server that lags behind answers reads too: what it has is not taken for all there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson
import pytest

from mesh.bus import read
from mesh.bus.errors import NotStored
from mesh.bus.replies import Replies, Reply

pytestmark = pytest.mark.unit

SUBJECT = "log.lag.1"


class Cluster:
    """A leader that has `stored` messages, and a follower that answers reads with one more at each request."""

    def __init__(self, stored: int, follower_has: int) -> None:
        self.stored = stored
        self.follower_has = follower_has
        self.may_be_stale = True
        self.asked_leader = 0

    async def request(self, subject: str, payload: bytes, _headers: object, _timeout: float) -> Reply:
        """Answer as the leader does to STREAM.MSG.GET, and as the follower does to DIRECT.GET."""
        request = orjson.loads(payload)
        if subject.startswith("$JS.API.STREAM.MSG.GET."):
            self.asked_leader += 1
            wanted = request.get("seq", self.stored)
            if not 0 < wanted <= self.stored:
                return Reply(orjson.dumps({"error": {"code": 404, "err_code": 10037, "description": "none"}}), {})
            return Reply(orjson.dumps({"message": {"seq": wanted}}), {})
        has = self._catch_up()
        seq = request.get("seq", has)
        return self._message(seq, has) if 0 < seq <= has else Reply(b"", {"Status": "404"})

    async def collect(self, _subject: str, payload: bytes, collector: Callable[[Reply], bool], _timeout: float) -> None:
        """Answer as the follower does to DIRECT.GET of a batch."""
        request, has = orjson.loads(payload), self._catch_up()
        for seq in range(request["seq"], min(has, request["seq"] + request["batch"] - 1) + 1):
            assert not collector(self._message(seq, has))
        assert collector(Reply(b"", {"Status": "204" if request["seq"] <= has else "404"}))

    def _catch_up(self) -> int:
        has = self.follower_has
        self.follower_has = min(self.stored, has + 1)
        return has

    @staticmethod
    def _message(seq: int, has: int) -> Reply:
        headers: Mapping[str, Any] = {
            "Nats-Sequence": str(seq),
            "Nats-Subject": SUBJECT,
            "Nats-Time-Stamp": "2026-11-25T12:00:00Z",
            "Nats-Num-Pending": str(has - seq),
        }
        return Reply(str(seq).encode(), headers)


def replies(cluster: Cluster) -> Replies:
    return cast("Replies", cluster)


async def page(cluster: Cluster, *, after_seq: int, limit: int) -> list[int]:
    return [each.seq for each in await read.read(replies(cluster), "LOG", SUBJECT, after_seq=after_seq, limit=limit)]


@pytest.mark.parametrize("follower_has", [0, 1, 3, 5])
async def test_a_read_goes_on_to_the_end_of_what_the_leader_has(follower_has: int) -> None:
    assert await page(Cluster(5, follower_has), after_seq=0, limit=100) == [1, 2, 3, 4, 5]
    assert await page(Cluster(5, follower_has), after_seq=4, limit=100) == [5]
    assert await page(Cluster(5, follower_has), after_seq=5, limit=100) == []


async def test_a_page_that_is_not_the_last_costs_no_question() -> None:
    cluster = Cluster(5, 5)
    assert await page(cluster, after_seq=0, limit=3) == [1, 2, 3]
    assert await page(cluster, after_seq=0, limit=5) == [1, 2, 3, 4, 5]
    assert cluster.asked_leader == 0


async def test_a_server_alone_is_asked_once() -> None:
    cluster = Cluster(5, 5)
    cluster.may_be_stale = False
    assert await page(cluster, after_seq=0, limit=100) == [1, 2, 3, 4, 5]
    assert (await read.last(replies(cluster), "LOG", SUBJECT)).seq == 5
    assert cluster.asked_leader == 0


@pytest.mark.parametrize("follower_has", [0, 2, 5])
async def test_the_last_message_and_a_certain_one_are_those_of_the_leader(follower_has: int) -> None:
    assert (await read.last(replies(Cluster(5, follower_has)), "LOG", SUBJECT)).seq == 5
    assert (await read.at(replies(Cluster(5, follower_has)), "LOG", 4)).seq == 4


async def test_what_the_leader_has_not_is_not_waited_for() -> None:
    with pytest.raises(NotStored):
        await read.last(replies(Cluster(0, 0)), "LOG", SUBJECT)
    with pytest.raises(NotStored):
        await read.at(replies(Cluster(3, 3)), "LOG", 4)
