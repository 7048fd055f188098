"""What a handler of events gets, for tests that call it without a bus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import Message

from mesh.bus import Delivery

M = TypeVar("M", bound=Message)


def delivery(message: M, *, subject: str = "", seq: int = 1, attempts: int = 1) -> Delivery[M]:
    """Return a message as a stream delivers it."""
    return Delivery(message, seq, subject, {}, attempts, datetime.now(UTC))
