"""Page tokens: they lead through a list, and nothing else is taken for one."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.errors import Refused
from mesh.rpc.paging import Paging
from mesh.rpc.timestamps import from_wire, to_wire

pytestmark = pytest.mark.unit

AGENTS = Paging("ListAgents", ("", 0), size=2)
PEOPLE = [("Ada", 1), ("Ada", 2), ("Wang 小林", 3), ("Zoe", 4)]


def fetch(token: str, asked: int = 0) -> tuple[list[tuple[str, int]], str]:
    """A list with a store behind it."""
    size = AGENTS.size(asked)
    after = AGENTS.position(token)
    found = [each for each in PEOPLE if each > after][: size + 1]
    items, following = AGENTS.page(found, size, lambda each: each)
    return list(items), following


def test_tokens_lead_through_the_whole_list_and_end_with_none() -> None:
    first, token = fetch("")
    assert first == PEOPLE[:2]
    second, token = fetch(token)
    assert (second, token) == (PEOPLE[2:], "")
    assert fetch("", asked=4) == (PEOPLE, "")


def encoded(*said: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "!!!!",
        "文",
        encoded("ListUsers", "", 1),
        encoded("ListAgents", 1),
        encoded("ListAgents", 1, 1),
        encoded("ListAgents", "", True),
        encoded("ListAgents", "", 2**63),
        encoded("ListAgents", "\0", 1),
        encoded("ListAgents", "", 1, 2),
        base64.urlsafe_b64encode(b"[" * 2000).decode(),
        base64.urlsafe_b64encode(b"7").decode(),
    ],
)
def test_what_another_list_or_nobody_made_is_refused(token: str) -> None:
    with pytest.raises(Refused, match="no page token of ListAgents") as refused:
        AGENTS.position(token)
    assert [field for field, _ in refused.value.violations] == ["page_token"]


def test_a_moment_survives_the_wire_and_its_absence_too() -> None:
    moment = datetime(2026, 3, 29, 1, 59, 59, 123456, tzinfo=timezone(timedelta(hours=8)))
    assert from_wire(to_wire(moment)) == moment
    assert from_wire(Timestamp()) == datetime(1970, 1, 1, tzinfo=UTC)
    assert to_wire(None) is None
    with pytest.raises(ValueError, match="has no time zone"):
        to_wire(datetime(2026, 3, 29))  # noqa: DTZ001
