"""The running instances, by the watcher's own clock. No I/O: entries and the time are passed in."""

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
    """The running instances. An entry that is not renewed for `EXPIRE_SECONDS` expires."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __iter__(self) -> Iterator[registry_pb2.Instance]:
        """Yield the instances, by service and id."""
        return (self._entries[key].instance for key in sorted(self._entries))

    def heard(self, key: str, raw: bytes, now: float) -> bool:
        """Apply an entry of the registry; return whether it changed anything besides the renewal.

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
        """Remove an entry that was deleted; return whether it was there."""
        return self._entries.pop(key, None) is not None

    def expire(self, now: float) -> list[registry_pb2.Instance]:
        """Remove the entries that were not renewed in time, and return them."""
        late = [key for key, entry in self._entries.items() if entry.deadline <= now]
        return [self._entries.pop(key).instance for key in late]

    def grant(self, until: float) -> None:
        """Extend every entry to that time at least, after a time in which renewals could not arrive."""
        for entry in self._entries.values():
            entry.deadline = max(entry.deadline, until)
