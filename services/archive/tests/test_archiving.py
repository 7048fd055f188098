"""The log reaches the database once, whatever is stopped in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

import nats
import pytest
from octopus.chat.v1 import chat_events_pb2, message_pb2

from mesh.bus import Bus, streams
from mesh.bus.connection import SERVER_NAME
from mesh.identity.files import Identity
from mesh.process.member import Member
from mesh.testing import Platform
from services.archive.app import app
from services.archive.config import ArchiveConfig
from services.archive.tests.conftest import entry, new_id, new_tenant, publish, until

pytestmark = pytest.mark.store


@asynccontextmanager
async def archiving(config: ArchiveConfig, instance: str = "archive-1") -> AsyncIterator[None]:
    """Run the whole service."""
    own = config.model_copy(update={"instance": instance})
    async with Member(own) as member, app(member, own):
        try:
            yield
        finally:
            await member.finish()


async def archived(platform: Platform, tenant_id: str) -> list[tuple[int, int, int]]:
    """Session, seq and message id of everything of a shop."""
    query = f"SELECT session_id, seq, message_id FROM cs_message WHERE tenant_id = '{tenant_id}' ORDER BY 1, 2"  # noqa: S608  # a name of ours
    return await platform.postgres.execute(query)


async def converse(bus: Bus, tenant_id: str, sessions: list[int], count: int) -> list[tuple[int, int, int]]:
    """Say `count` things in each session at the same time; return what was acknowledged, as `archived` does."""

    async def one(session_id: int) -> list[tuple[int, int, int]]:
        acknowledged = []
        for number in range(count):
            said = entry(tenant_id, session_id, f"第 {number} 句")
            acknowledged.append((session_id, await publish(bus, said), said.message.id))
        return acknowledged

    return sorted(chain.from_iterable(await asyncio.gather(*(one(session_id) for session_id in sessions))))


async def converse_until(
    bus: Bus, tenant_id: str, sessions: list[int], enough: asyncio.Event
) -> list[tuple[int, int, int]]:
    """As `converse`, going on until there is enough."""
    acknowledged = []
    while not enough.is_set():
        acknowledged += await converse(bus, tenant_id, sessions, 10)
    return sorted(acknowledged)


async def check(platform: Platform, tenant_id: str, said: list[tuple[int, int, int]]) -> None:
    """Every acknowledged entry is archived once, at its position."""

    async def all_there() -> bool:
        return len(await archived(platform, tenant_id)) >= len(said)

    await until(all_there, seconds=30)
    assert await archived(platform, tenant_id) == said


async def test_what_is_said_is_archived_once_and_in_its_place(
    config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    one, two = new_tenant(), new_tenant()
    async with archiving(config):
        sessions = [new_id() for _ in range(10)]
        said = await asyncio.gather(
            converse(operator, one, sessions[:5], 20), converse(operator, two, sessions[5:], 20)
        )
        await check(migrated, one, said[0])
        await check(migrated, two, said[1])


async def test_two_instances_share_the_log(config: ArchiveConfig, operator: Bus, migrated: Platform) -> None:
    tenant_id = new_tenant()
    async with archiving(config, "archive-1"), archiving(config, "archive-2"):
        await check(migrated, tenant_id, await converse(operator, tenant_id, [new_id() for _ in range(8)], 20))


async def test_what_was_said_while_nobody_archived_is_archived_later(
    config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    tenant_id = new_tenant()
    said = await converse(operator, tenant_id, [new_id()], 20)
    async with archiving(config):
        await check(migrated, tenant_id, said)


async def test_the_whole_log_delivered_again_changes_nothing(
    config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    tenant_id = new_tenant()
    async with archiving(config):
        said = await converse(operator, tenant_id, [new_id() for _ in range(4)], 10)
        await check(migrated, tenant_id, said)
    # Without its consumer the archive begins at the start of the log.
    await _forget_consumer(migrated)
    await migrated.nats.provision()
    async with archiving(config):
        later = await converse(operator, tenant_id, [new_id()], 1)
        await check(migrated, tenant_id, sorted(said + later))


@pytest.mark.parametrize("fault", ["restart", "kill"])
async def test_a_database_that_goes_away_and_comes_back_misses_nothing(
    fault: str, config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    tenant_id = new_tenant()
    async with archiving(config), asyncio.TaskGroup() as group:
        enough = asyncio.Event()
        talking = group.create_task(converse_until(operator, tenant_id, [new_id() for _ in range(10)], enough))
        await until(lambda: _some(migrated, tenant_id))
        try:
            await (migrated.postgres.kill() if fault == "kill" else migrated.postgres.stop())
            # The log takes what is said while nobody can archive it.
            meanwhile = await converse(operator, tenant_id, [new_id()], 10)
        finally:
            await migrated.postgres.start()
        enough.set()
        await check(migrated, tenant_id, sorted(meanwhile + await talking))


@pytest.mark.parametrize("fault", ["restart", "kill"])
async def test_a_bus_that_goes_away_and_comes_back_loses_and_repeats_nothing(
    fault: str, config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    tenant_id = new_tenant()
    async with archiving(config), asyncio.TaskGroup() as group:
        enough = asyncio.Event()
        talking = group.create_task(converse_until(operator, tenant_id, [new_id() for _ in range(10)], enough))
        await until(lambda: _some(migrated, tenant_id))
        try:
            await (migrated.nats.kill() if fault == "kill" else migrated.nats.stop())
        finally:
            await migrated.nats.start()
        enough.set()
        await check(migrated, tenant_id, await talking)


async def test_a_poisoned_entry_is_parked_and_its_neighbours_are_archived(
    config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    tenant_id, session_id = new_tenant(), new_id()
    forged = entry("another-shop", session_id, "of another shop than its subject says")
    before = await operator.last("dead.LOG.archive")
    async with archiving(config):
        said = await converse(operator, tenant_id, [session_id], 5)
        await operator.publish(f"log.{tenant_id}.{session_id}", forged, message_id=str(forged.message.id))
        said += await converse(operator, tenant_id, [session_id], 5)
        await check(migrated, tenant_id, said)

        async def parked() -> bool:
            last = await operator.last("dead.LOG.archive")
            return last is not None and (before is None or last.seq > before.seq)

        await until(parked)
    last = await operator.last("dead.LOG.archive")
    assert last is not None
    assert chat_events_pb2.LogEntry.FromString(last.data) == forged


async def test_a_resend_that_came_into_the_log_again_is_archived_once(
    config: ArchiveConfig, operator: Bus, migrated: Platform
) -> None:
    tenant_id, session_id = new_tenant(), new_id()
    first, again = entry(tenant_id, session_id, "once"), entry(tenant_id, session_id, "once")
    again.message.client_message_id = first.message.client_message_id
    by_the_agent = entry(tenant_id, session_id, "another side, the same id")
    by_the_agent.message.client_message_id = first.message.client_message_id
    by_the_agent.message.sender.kind = message_pb2.SENDER_KIND_AGENT
    elsewhere = entry(tenant_id, new_id(), "another session, the same id")
    elsewhere.message.client_message_id = first.message.client_message_id
    before = await operator.last("dead.LOG.archive")
    async with archiving(config):
        # In one batch, and in another one.
        said = [(e.message.session_id, await publish(operator, e), e.message.id) for e in (first, by_the_agent)]
        await publish(operator, again)
        said.append((elsewhere.message.session_id, await publish(operator, elsewhere), elsewhere.message.id))
        await check(migrated, tenant_id, sorted(said))
        again.message.id = new_id()
        await publish(operator, again)
        last = entry(tenant_id, session_id, "the last")
        said.append((session_id, await publish(operator, last), last.message.id))
        await check(migrated, tenant_id, sorted(said))
    after = await operator.last("dead.LOG.archive")
    assert (after and after.seq) == (before and before.seq), "a resend is no poison"


async def _forget_consumer(platform: Platform) -> None:
    client = await nats.connect(
        platform.nats_url,
        tls=Identity(platform.identity, "operator").client_context(),
        tls_hostname=SERVER_NAME,
    )
    try:
        await client.jetstream().delete_consumer(streams.LOG, "archive")
    finally:
        await client.close()


async def _some(platform: Platform, tenant_id: str) -> bool:
    return len(await archived(platform, tenant_id)) > 0
