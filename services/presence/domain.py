"""The rules of presence: who is online, and how long somebody has not been.

A person is online while an instance of chat holds a stream of theirs. An instance that has been silent for
`LOST_AFTER` is lost, and what it held with it. How long somebody has been offline counts only time in which their
coming back would have been reported: while no instance reports, nobody can be blamed for being away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

# An instance that has not reported for so long is lost. Several of its reports fit in.
LOST_AFTER: Final = timedelta(seconds=10)


class Device(NamedTuple):
    """A device of a person, and how many streams it has open."""

    id: str
    streams: int


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the instances of chat at one moment, by the clock of the store."""

    now: datetime
    # Whether some instance reports at present.
    reporting: bool
    # Since when there has always been one, as far as the store remembers.
    since: datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether and how a person is connected."""

    user_id: int
    devices: tuple[Device, ...]
    last_seen_at: datetime | None
    offline_for: timedelta | None

    @property
    def online(self) -> bool:
        """Return whether a stream of the person is open."""
        return bool(self.devices)


def presence(user_id: int, held: Iterable[Iterable[Device]], left_at: datetime | None, watch: Watch) -> Presence:
    """Return a person's presence from the devices that each instance holds, and when the last stream ended."""
    streams: dict[str, int] = {}
    for devices in held:
        for device in devices:
            streams[device.id] = streams.get(device.id, 0) + device.streams
    if streams:
        return Presence(user_id, tuple(Device(*each) for each in sorted(streams.items())), None, None)
    if not watch.reporting:
        return Presence(user_id, (), left_at, timedelta())
    since = watch.since if left_at is None else max(left_at, watch.since)
    return Presence(user_id, (), left_at, max(watch.now - since, timedelta()))
