"""kill -9 at any moment, between PostgreSQL and Valkey too: nobody is stuck, no place or event is lost."""

# ruff: noqa: S608  # the test's own shop

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from octopus.errors.v1 import errors_pb2 as errors
from octopus.session.v1 import session_pb2, session_service_pb2
from octopus.session.v1.session_events_pb2 import SessionEvent
from octopus.session.v1.session_service_pb2_grpc import SessionServiceStub

from mesh.errors import Refused
from mesh.platform import ports
from mesh.platform.settings import write_settings
from mesh.rpc.metadata import Metadata, with_token
from mesh.testing import Platform
from mesh.testing.ports import free_port
from mesh.testing.rpc import Keys, dialling
from services.session.config import SessionConfig
from services.session.domain import AgentStatus, HandoffReason, Session, SessionState
from services.session.events import SessionChanged
from services.session.tests.parts import Parts, eventually, keyring_of
from services.session.tests.service import published

pytestmark = pytest.mark.service

pb = session_service_pb2

CUSTOMERS, AGENTS, CAPACITY = 60, 4, 5
# A process starts in two seconds, and in many more on a machine that is busy with other tests.
STARTED_S = 60.0
# What a client hears when the instance it talks to dies under it, or when two of its attempts cross.
_AGAIN = (errors.REASON_UNAVAILABLE, errors.REASON_DEADLINE_EXCEEDED)


class Instance:
    """One process of the service, on a port of its own."""

    def __init__(self, settings: Path, port: int) -> None:
        self.port = port
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._settings.with_suffix(".log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.session", "--config", str(self._settings), stdout=log, stderr=log
            )

    async def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def serves(self) -> bool:
        return not ports.is_free(self.port)

    async def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return await self._process.wait()


@asynccontextmanager
async def instances(platform: Platform, folder: Path) -> AsyncIterator[list[Instance]]:
    running = []
    for number in (1, 2):
        port = free_port()
        config = platform.config(
            "session",
            SessionConfig,
            instance=f"session-{number}",
            port=port,
            addresses={"user": "127.0.0.1:1", "presence": "127.0.0.1:1"},
            keyring_file=keyring_of(platform),
            reconcile_every_s=1,
            lapse_every_s=0.5,
        )
        settings = folder / f"session-{number}.toml"
        write_settings(settings, config.model_dump(mode="json", exclude_none=True))
        running.append(Instance(settings, port))
    for instance in running:
        await instance.start()
    try:
        yield running
        assert [await instance.stop() for instance in running] == [0, 0]
    except BaseException:
        for instance in running:
            await instance.kill()
        raise


@dataclass(frozen=True)
class Crowd:
    """Customers and agents who call either instance, again and again until one answers."""

    tenant: str
    keys: Keys
    stubs: list[SessionServiceStub]

    async def customer(self, number: int) -> None:
        """Comes, asks for a person, waits until one talks, and ends it."""
        token = self.token(number, "CUSTOMER")
        opened = await self.call("OpenSession", pb.OpenSessionRequest(channel="web"), token)
        wanted = opened.session.id
        button = session_pb2.HANDOFF_REASON_BUTTON
        await self.call("RequestHandoff", pb.RequestHandoffRequest(session_id=wanted, reason=button), token)

        async def talks() -> bool:
            await asyncio.sleep(0.1)
            now = await self.call("GetSession", pb.GetSessionRequest(session_id=wanted), token)
            return bool(now.session.state == session_pb2.SESSION_STATE_ACTIVE)

        await eventually(talks, f"customer {number} is served", within=120)
        await self.call("EndSession", pb.EndSessionRequest(session_id=wanted), token)

    async def agent(self, number: int) -> None:
        """Is available, and accepts whatever is offered."""
        token = self.token(number, "AGENT")
        available = pb.SetAgentStatusRequest(status=session_pb2.AGENT_STATUS_AVAILABLE)
        await self.call("SetAgentStatus", available, token)
        while True:
            mine = await self.call("ListOpenSessions", pb.ListOpenSessionsRequest(), token)
            assert len(mine.sessions) <= CAPACITY
            for session in mine.sessions:
                if session.state == session_pb2.SESSION_STATE_ASSIGNED:
                    await self.accept(session.id, token)
            await asyncio.sleep(0.05)

    async def accept(self, session_id: int, token: Metadata) -> None:
        try:
            await self.call("AcceptSession", pb.AcceptSessionRequest(session_id=session_id), token)
        except Refused as refused:
            # Its customer ended it: accepted by an attempt before, whose answer was lost.
            if refused.reason != errors.REASON_SESSION_ENDED:
                raise

    def token(self, number: int, role: str) -> Metadata:
        return with_token(self.keys.token(self.tenant, number, role, name=f"{role} {number}"))

    async def call(self, method: str, request: object, token: Metadata) -> Any:
        deadline = asyncio.get_running_loop().time() + 30
        while True:
            try:
                return await getattr(random.choice(self.stubs), method)(request, metadata=token, timeout=5)
            except Refused as refused:
                if refused.reason not in _AGAIN or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)


async def kill_in_turn(running: list[Instance]) -> None:
    for victim in (0, 1, 0, 1):
        await asyncio.sleep(random.uniform(0.3, 1.5))
        await running[victim].kill()
        await running[victim].start()
        await eventually(running[victim].serves, "the instance is back", within=STARTED_S)


async def test_instances_die_at_any_moment_and_everyone_is_served(
    migrated: Platform, one: Parts, tenant: str, tmp_path: Path
) -> None:
    keys = Keys()
    async with (
        published(migrated, keys),
        instances(migrated, tmp_path) as running,
        dialling(migrated.identity, "edge", "session", f"127.0.0.1:{running[0].port}") as first,
        dialling(migrated.identity, "edge", "session", f"127.0.0.1:{running[1].port}") as second,
    ):
        crowd = Crowd(tenant, keys, [SessionServiceStub(first), SessionServiceStub(second)])
        agents = [asyncio.create_task(crowd.agent(900 + number)) for number in range(AGENTS)]
        killing = asyncio.create_task(kill_in_turn(running))
        await asyncio.gather(*(crowd.customer(number) for number in range(1, CUSTOMERS + 1)))
        await killing
        for working in agents:
            working.cancel()
        for ended in await asyncio.gather(*agents, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended

        found = await one.store.agents(tenant, after=("", 0), limit=50)
        assert [(agent.load, agent.capacity) for agent in found] == [(0, CAPACITY)] * AGENTS

        async def free_again() -> bool:
            return (await one.queue.snapshot(tenant)).sessions == frozenset()

        await eventually(free_again, "the queue knows that nobody is left")
        await every_version_told_once(migrated, one, tenant)


async def every_version_told_once(platform: Platform, one: Parts, tenant: str) -> None:
    async def published_all() -> bool:
        rows = await platform.postgres.execute(f"SELECT count(*) FROM cs_session_outbox WHERE tenant_id = '{tenant}'")
        return rows == [(0,)]

    await eventually(published_all, "the outbox is empty")
    rows = await platform.postgres.execute(f"SELECT id, version FROM cs_session WHERE tenant_id = '{tenant}'")
    assert len(rows) == CUSTOMERS
    for session_id, version in rows:
        stored = await one.member.bus.read(f"event.session.{tenant}.{session_id}", after_seq=0, limit=100)
        versions = [SessionEvent.FromString(event.data).session.version for event in stored]
        assert versions == list(range(1, version + 1))


async def test_another_instance_reconciles_when_the_one_that_did_is_killed(
    migrated: Platform, one: Parts, tenant: str, tmp_path: Path
) -> None:
    keys = Keys()
    async with published(migrated, keys), instances(migrated, tmp_path) as running:
        await one.status(tenant, 900, AgentStatus.AVAILABLE, capacity=10)
        await eventually(
            offered(one, await unknown_to_the_queue(one, tenant, 1)), "one instance reconciles", within=STARTED_S
        )
        lease = await one.member.bus.kv("leases").get("session.reconciliation")
        assert lease is not None
        assert lease.value is not None
        leader = int(lease.value.decode().partition("/")[0].removeprefix("session-")) - 1
        await running[leader].kill()

        # Nobody waits for the lease: an offer follows at once on the request.
        address = f"127.0.0.1:{running[1 - leader].port}"
        async with dialling(migrated.identity, "edge", "session", address) as channel:
            crowd = Crowd(tenant, keys, [SessionServiceStub(channel)])
            token = crowd.token(3, "CUSTOMER")
            opened = await crowd.call("OpenSession", pb.OpenSessionRequest(channel="web"), token)
            button = session_pb2.HANDOFF_REASON_BUTTON
            asked = await crowd.call(
                "RequestHandoff", pb.RequestHandoffRequest(session_id=opened.session.id, reason=button), token
            )
            assert asked.session.state == session_pb2.SESSION_STATE_ASSIGNED

        await eventually(offered(one, await unknown_to_the_queue(one, tenant, 2)), "the other one goes on", within=20)
        await running[leader].start()
        await eventually(running[leader].serves, "the instance is back", within=STARTED_S)


async def unknown_to_the_queue(part: Parts, tenant: str, customer_id: int) -> Session:
    """Leave a session as an instance does that dies between PostgreSQL and Valkey."""
    session = await part.open(tenant, customer_id)
    async with part.store.unit_of_work(tenant) as work:
        before = await work.session(session.id)
        assert before is not None
        after = before.ask_person(HandoffReason.BUTTON, work.now)
        return await work.save(before, after, SessionChanged.HANDOFF_REQUESTED)


def offered(part: Parts, session: Session) -> Callable[[], Awaitable[bool]]:
    async def is_offered() -> bool:
        return (await part.session(session)).state is SessionState.ASSIGNED

    return is_offered


async def test_what_happens_is_announced_while_an_instance_is_frozen(
    migrated: Platform, one: Parts, tenant: str, tmp_path: Path
) -> None:
    """One of the two relays the outbox: each is frozen in turn, so that the bad case is met."""
    async with published(migrated, Keys()), instances(migrated, tmp_path) as running:
        await eventually(announced(one, await one.open(tenant, 1)), "an instance relays the outbox", within=STARTED_S)
        for number, frozen in enumerate(running, 2):
            await eventually(frozen.serves, "the instance is there", within=STARTED_S)
            frozen.freeze()
            try:
                session = await one.open(tenant, number)
                await eventually(announced(one, session), "the other instance relays the outbox", within=20)
            finally:
                frozen.thaw()


def announced(part: Parts, session: Session) -> Callable[[], Awaitable[bool]]:
    async def is_announced() -> bool:
        return await part.member.bus.last(f"event.session.{session.tenant_id}.{session.id}") is not None

    return is_announced
