"""The messages that handlers receive."""

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


class Delivery(NamedTuple, Generic[M]):
    """A message for a handler. `attempts` is 1 at the first delivery; `time` is when the stream stored it."""

    message: M
    seq: int
    subject: str
    headers: Mapping[str, str]
    attempts: int
    time: datetime


Handler = Callable[[Delivery[M]], Coroutine[Any, Any, None]]
BatchHandler = Callable[[list[Delivery[M]]], Coroutine[Any, Any, None]]
