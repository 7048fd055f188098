"""Who runs now, by the watcher's own clock. No I/O: what is heard and what time it is come from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from octopus.mesh.v1 import registry_pb2

EXPIRE_SECONDS: Final = 3.0


@dataclass
class _Entry:
    raw: bytes
    instance: registry_pb2.Instance
    deadline: float


class Table:
    """The running instances. An entry that is not renewed for `EXPIRE_SECONDS` is forgotten."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __iter__(self) -> Iterator[registry_pb2.Instance]:
        """Yield the instances, by service and id."""
        return (self._entries[key].instance for key in sorted(self._entries))

    def heard(self, key: str, raw: bytes, now: float) -> bool:
        """Take an entry as it stands in the registry; say whether something changed besides its being renewed.

        Raise ValueError when the entry is malformed or belongs under another key.
        """
        deadline = now + EXPIRE_SECONDS
        known = self._entries.get(key)
        if known is not None and known.raw == raw:
            # The usual case, ten times a second: nothing is parsed and nothing is built.
            known.deadline = max(known.deadline, deadline)
            return False
        try:
            instance = registry_pb2.Instance.FromString(raw)
        except DecodeError as error:
            raise ValueError(f"the registry entry {key} is not an Instance") from error
        if f"{instance.service}.{instance.instance_id}" != key:
            raise ValueError(f"the registry entry {key} claims to be {instance.service}.{instance.instance_id}")
        self._entries[key] = _Entry(raw, instance, deadline)
        return True

    def gone(self, key: str) -> bool:
        """Forget an entry that was taken away; say whether it was known."""
        return self._entries.pop(key, None) is not None

    def expire(self, now: float) -> list[registry_pb2.Instance]:
        """Forget the entries that were not renewed in time, and return them."""
        late = [key for key, entry in self._entries.items() if entry.deadline <= now]
        return [self._entries.pop(key).instance for key in late]

    def grant(self, until: float) -> None:
        """Let every entry live at least until then: after a time in which nothing could be heard."""
        for entry in self._entries.values():
            entry.deadline = max(entry.deadline, until)
