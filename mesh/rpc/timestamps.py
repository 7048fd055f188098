"""Convert between optional `google.protobuf.Timestamp` fields and aware datetimes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload

from google.protobuf.timestamp_pb2 import Timestamp


@overload
def to_wire(moment: datetime) -> Timestamp: ...


@overload
def to_wire(moment: datetime | None) -> Timestamp | None: ...


def to_wire(moment: datetime | None) -> Timestamp | None:
    """Return the moment as a Timestamp; None leaves the field out.

    Raise ValueError for a moment without a time zone, which would be taken for UTC.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def from_wire(stamp: Timestamp) -> datetime:
    """Return the moment of a field that is set, in UTC; microseconds are kept."""
    return stamp.ToDatetime(tzinfo=UTC)
