"""Who is online, and how long somebody has not been."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.presence.domain import Device, Watch, presence

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
AGES = [timedelta(seconds=each) for each in (0, 1, 25, 3600, 30 * 24 * 3600)]
HELD: list[list[list[Device]]] = [
    [],
    [[]],
    [[Device("", 1)]],
    [[Device("phone", 2)], [], [Device("phone", 1), Device("desk", 9)]],
]


def watch(*, reporting: bool = True, for_: timedelta = timedelta(days=1)) -> Watch:
    return Watch(NOW, reporting, NOW - for_)


def test_streams_of_a_device_on_several_instances_are_one_device() -> None:
    found = presence(7, [[Device("phone", 1)], [Device("phone", 2), Device("", 1)]], None, watch())
    assert found.online
    assert found.devices == (Device("", 1), Device("phone", 3))


def test_somebody_is_offline_since_the_last_stream_ended() -> None:
    left_at = NOW - timedelta(minutes=3)
    found = presence(7, [], left_at, watch())
    assert (found.online, found.last_seen_at, found.offline_for) == (False, left_at, timedelta(minutes=3))


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("left", [None, *AGES])
@pytest.mark.parametrize("reporting", [False, True])
@pytest.mark.parametrize("since", AGES)
def test_nobody_is_offline_for_longer_than_somebody_watched(
    held: list[list[Device]], left: timedelta | None, reporting: bool, since: timedelta
) -> None:
    found = presence(7, held, None if left is None else NOW - left, watch(reporting=reporting, for_=since))
    assert found.online == any(held)
    if found.online:
        assert found.offline_for is None
        assert sum(device.streams for device in found.devices) == sum(d.streams for each in held for d in each)
    else:
        assert found.offline_for is not None
        assert timedelta() <= found.offline_for <= (since if reporting else timedelta())
        assert left is None or found.offline_for <= left
