"""Who is connected is reported: together, in order, and anew when a report was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from octopus.errors.v1 import errors_pb2
from octopus.presence.v1 import presence_service_pb2 as pb

from mesh.errors import Refused
from services.chat.connection import Connection
from services.chat.presence import PresenceReporter
from services.chat.registry import ConnectionRegistry
from services.chat.tests import fakes
from services.chat.tests.fakes import TENANT, FakeBus, FakeSessions

pytestmark = pytest.mark.unit

CUSTOMER, AGENT = 7, 20


class KnownPresences:
    """The presence service as far as chat knows it, with the faults that a test asks for."""

    def __init__(self) -> None:
        self.requests: list[pb.ReportPresenceRequest] = []
        self.online: dict[int, dict[str, int]] = {}
        self.staff: dict[int, bool] = {}
        self.sequence: int | None = None
        # What happens to the next reports: "lost" on the way there, "unanswered" on the way back.
        self.faults: Iterator[str] = iter(())

    async def report(self, request: pb.ReportPresenceRequest) -> bool:
        await asyncio.sleep(0)
        fault = next(self.faults, "")
        if fault == "lost":
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "not there")
        self.requests.append(request)
        taken = self._take(request)
        if fault == "unanswered":
            raise Refused(errors_pb2.REASON_DEADLINE_EXCEEDED, "too slow")
        return taken

    def _take(self, request: pb.ReportPresenceRequest) -> bool:
        if request.first:
            self.online.clear()
        elif self.sequence is None or request.sequence != self.sequence + 1:
            return False
        self.sequence = request.sequence
        for person in request.persons:
            assert person.tenant_id == TENANT
            self.staff[person.user_id] = person.staff
            self.online.pop(person.user_id, None)
            if person.devices:
                self.online[person.user_id] = {device.id: device.streams for device in person.devices}
        return True

    def forget(self) -> None:
        self.online.clear()
        self.sequence = None


@pytest.fixture
def registry() -> ConnectionRegistry:
    bus = FakeBus()
    return fakes.registry(bus, FakeSessions(bus))


@pytest.fixture
def presences() -> KnownPresences:
    return KnownPresences()


async def connect(registry: ConnectionRegistry, user_id: int, device_id: str = "") -> Connection:
    connection = fakes.connection(user_id)
    connection.device_id = device_id
    await registry.attach(connection, {})
    return connection


async def test_devices_come_and_go(registry: ConnectionRegistry, presences: KnownPresences) -> None:
    reporter = PresenceReporter("chat-1.a", registry, presences)
    desk, phone = await connect(registry, AGENT, "desk"), await connect(registry, AGENT, "phone")
    shopper = await connect(registry, CUSTOMER)
    await reporter.report()
    assert presences.online == {AGENT: {"desk": 1, "phone": 1}, CUSTOMER: {"": 1}}
    await registry.detach(desk)
    await registry.detach(shopper)
    await reporter.report()
    assert presences.online == {AGENT: {"phone": 1}}
    await registry.detach(phone)
    await reporter.report()
    assert presences.online == {}
    assert presences.staff == {AGENT: True, CUSTOMER: False}


async def test_those_who_come_back_at_once_are_reported_together(
    registry: ConnectionRegistry, presences: KnownPresences
) -> None:
    reporter = PresenceReporter("chat-1.a", registry, presences)
    await reporter.report()
    for user_id in range(1, 2_501):
        await connect(registry, user_id)
    await reporter.report()
    assert len(presences.online) == 2_500
    # One to begin with, and a thousand persons in each of the others.
    assert len(presences.requests) == 4


@pytest.mark.parametrize("fault", ["lost", "unanswered"])
async def test_after_a_report_that_failed_everybody_is_reported(
    registry: ConnectionRegistry, presences: KnownPresences, fault: str
) -> None:
    reporter = PresenceReporter("chat-1.a", registry, presences)
    shopper = await connect(registry, CUSTOMER)
    await reporter.report()
    agent = await connect(registry, AGENT)
    presences.faults = iter([fault])
    with pytest.raises(Refused):
        await reporter.report()
    await registry.detach(shopper)
    await reporter.report()
    assert presences.online == {AGENT: {"": 1}}
    await registry.detach(agent)
    await reporter.report()
    assert presences.online == {}


async def test_everybody_is_reported_to_a_service_that_has_forgotten(
    registry: ConnectionRegistry, presences: KnownPresences
) -> None:
    reporter = PresenceReporter("chat-1.a", registry, presences)
    for user_id in range(1, 1201):
        await connect(registry, user_id)
    await reporter.report()
    presences.forget()
    await connect(registry, 1201)
    await reporter.report()
    assert presences.online.keys() == set(range(1, 1202))


async def test_an_instance_without_changes_says_that_it_lives(
    registry: ConnectionRegistry, presences: KnownPresences
) -> None:
    reporter = PresenceReporter("chat-1.a", registry, presences, collect_s=0.01, heartbeat_s=0.05)
    presences.faults = iter(["lost"])
    running = asyncio.create_task(reporter.run())
    try:
        async with asyncio.timeout(20):
            while len(presences.requests) < 3:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
    assert [request.first for request in presences.requests[:3]] == [True, False, False]
    assert not presences.requests[2].persons
