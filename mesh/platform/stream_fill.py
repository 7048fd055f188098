"""The fill of the streams of NATS, from its monitoring port, and warnings about it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any, Final, TypedDict

# From here on it is worth a warning; the control process warns in its log at the same fill.
WARN_ABOVE: Final = 0.8
# A stream with less room than this takes hardly another message: one has at most 8 KB of text.
_LEAST_ROOM: Final = 16 * 1024
_TIMEOUT_S: Final = 1.0
_PATH: Final = "/jsz?streams=true&consumers=true&config=true"


class StreamStatus(TypedDict):
    """One stream that has a bound."""

    name: str
    # What it holds, and may hold, in bytes.
    held_bytes: int
    max_bytes: int
    # 0 to 1.
    fill: float
    # Whether it refuses messages; their senders get STORAGE_FULL.
    full: bool
    # Whether it deletes its oldest messages instead of refusing new ones.
    discards: bool
    # By consumer: how many messages it has not acknowledged. Those of a stream that refuses are kept till they are.
    behind: dict[str, int]


def streams(monitor_port: int) -> list[StreamStatus]:
    """Return the streams by name; none when NATS does not answer within a second."""
    connection = http.client.HTTPConnection("127.0.0.1", monitor_port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", _PATH)
        found = json.loads(connection.getresponse().read())
        details = [each for account in found.get("account_details", ()) for each in account.get("stream_detail", ())]
        rows = [_row(each) for each in details if each["config"]["max_bytes"] > 0]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return []
    finally:
        connection.close()
    return sorted(rows, key=lambda row: row["name"])


def _row(detail: dict[str, Any]) -> StreamStatus:
    held, most = int(detail["state"]["bytes"]), int(detail["config"]["max_bytes"])
    discards = detail["config"].get("discard") == "old"
    behind = {
        each["name"]: int(each.get("num_pending", 0)) + int(each.get("num_ack_pending", 0))
        for each in detail.get("consumer_detail") or ()
    }
    return StreamStatus(
        name=detail["name"],
        held_bytes=held,
        max_bytes=most,
        fill=round(min(held / most, 1.0), 3),
        full=not discards and most - held < _LEAST_ROOM,
        discards=discards,
        behind=behind,
    )


def summary(row: StreamStatus) -> str:
    """Return how full a stream is, e.g. `12 of 2048 MB, 1 %`."""
    return f"{row['held_bytes'] / 2**20:.0f} of {row['max_bytes'] / 2**20:.0f} MB, {100 * row['fill']:.0f} %"


def warnings(rows: list[StreamStatus]) -> Iterator[str]:
    """Yield what is wrong, and what to do, in words."""
    for row in rows:
        if row["discards"]:
            # It makes room by itself.
            continue
        if row["full"]:
            yield f"{row['name']} is full: senders are refused with STORAGE_FULL until it has room. {_advice(row)}"
        elif row["fill"] > WARN_ABOVE:
            yield f"{row['name']} is {100 * row['fill']:.0f} % full; a full one refuses new messages. {_advice(row)}"


def _advice(row: StreamStatus) -> str:
    name, count = max(row["behind"].items(), key=lambda each: each[1], default=("", 0))
    if count:
        return f"{name} has not handled {count} of its messages: `octopus logs {name}-1` says why"
    return "The disk has too little room: free some, or raise `--set control.bus_bytes=...`"
