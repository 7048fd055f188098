"""Pages of a list: sizes, and the opaque tokens that say where the next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

from octopus.errors.v1.errors_pb2 import REASON_INVALID_ARGUMENT

from mesh.errors import Refused

T = TypeVar("T")
Position = TypeVarTuple("Position")

_INT64: Final = 1 << 63


class Paging(Generic[*Position]):
    """The paging of one method: `Paging("ListAgents", ("", 0))` continues after a name and an id.

    A token contains the method's name, so that a token of another list is refused.
    """

    def __init__(self, method: str, first: tuple[*Position], *, size: int = 50) -> None:
        """Take the position before the first page, and the default page size."""
        self._method = method
        self._first = first
        self._size = size

    def size(self, asked: int) -> int:
        """Return how many items the page has; query one more to find out whether another page follows."""
        return asked or self._size

    def position(self, token: str) -> tuple[*Position]:
        """Return the position after which the page begins. Raise Refused for a token that this method has not made."""
        if not token:
            return self._first
        try:
            said: Any = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError, RecursionError):
            said = None
        if not isinstance(said, list) or said[:1] != [self._method] or not self._fits(said[1:]):
            text = f"this is no page token of {self._method}: use next_page_token of the page before, or none"
            raise Refused(REASON_INVALID_ARGUMENT, text, violations=[("page_token", text)])
        return tuple(said[1:])

    def _fits(self, position: list[Any]) -> bool:
        return list(map(type, position)) == list(map(type, self._first)) and all(
            -_INT64 <= each < _INT64 if isinstance(each, int) else "\0" not in str(each) for each in position
        )

    def page(self, found: Sequence[T], size: int, position: Callable[[T], tuple[*Position]]) -> tuple[Sequence[T], str]:
        """Return the items of the page, and the token of the next one; empty when `found` has no more than `size`."""
        if len(found) <= size:
            return found, ""
        said = json.dumps([self._method, *position(found[size - 1])], ensure_ascii=False)
        return found[:size], base64.urlsafe_b64encode(said.encode()).decode()
