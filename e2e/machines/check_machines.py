"""One of three machines is cut off while people talk: nothing acknowledged is lost, doubled or reordered.

`make machines` runs this, as root. Packets vanish, as behind a cable that was pulled: nobody is told.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import orjson
import pytest
import pytest_asyncio
from octopus.archive.v1 import archive_service_pb2_grpc

from e2e.conftest import ARTIFACTS
from e2e.machines.members import EDGES
from e2e.machines.network import NAMES
from e2e.machines.platform import Machines, machines
from e2e.machines.way_in import ByAnyEdge
from e2e.people import Shop
from e2e.talks import Talk, all_speak_after, check_books, talking
from mesh.bus.streams import LOG
from mesh.identity.files import Identity

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# Every conversation goes on within this many seconds of the cut, and of the promotion of a standby.
SERVED_WITHIN_S = 30.0
# Everything is whole again within this many seconds of the healing.
REJOINED_WITHIN_S = 90.0
TALKS = 8


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Machines]:
    """The three machines."""
    async with machines(ARTIFACTS / "machines") as made:
        yield made


@asynccontextmanager
async def people(platform: Machines, edge: str) -> AsyncIterator[list[Talk]]:
    """Let people talk on through both edges; at the end, hold the platform to its promises.

    Their log-ins and the history go through `edge`.
    """
    way_in = platform.edge(edge)
    async with way_in.channel(own_connection=True) as channel:
        shop = Shop("qingshan", platform.logins()["qingshan"], way_in, channel)
        await shop.close_up()
        async with talking(shop, ByAnyEdge([platform.edge(each) for each in EDGES]), count=TALKS) as talks:
            going = [asyncio.create_task(talk.go_on(), name=f"talk-{talk.session_id}") for talk in talks]
            try:
                await all_speak_after(talks, time.monotonic(), within=SERVED_WITHIN_S)
                yield talks
                await all_speak_after(talks, time.monotonic(), within=SERVED_WITHIN_S)
                for task in going:
                    assert not task.done(), f"{task.get_name()} ended: {task.exception()!r}"
            finally:
                for task in going:
                    task.cancel()
                await asyncio.gather(*going, return_exceptions=True)
            for talk in talks:
                await talk.shopper.say(talk.session_id, "last of the shopper")
                await talk.agent.say(talk.session_id, "last of the agent")
            archive = archive_service_pb2_grpc.ArchiveServiceStub(channel)
            counts = [await check_books(talk, archive) for talk in talks]
            print(f"{sum(counts)} acknowledged messages, none lost, doubled or reordered")
        await shop.close_up()


def report(what: str, talks: list[Talk], since: float) -> None:
    """Say how long nobody was served, and how long the one who waited longest waited."""
    at = sorted(moment for talk in talks for moment in talk.acknowledged_at)
    nobody = max((b - a for a, b in itertools.pairwise(at) if b > since), default=0.0)
    one = max(
        b - a for talk in talks for a, b in itertools.pairwise(talk.acknowledged_at)
        if b > since
    )  # fmt: skip
    print(f"{what}: nobody was served for {nobody:.1f} s, a single conversation for {one:.1f} s at most")


async def lead_log_from(platform: Machines, machine: str) -> None:
    """Let each message of the log go through that machine's server."""
    operator = Identity(platform.folders["m3"].identity, "operator")
    client = await nats.connect(
        [*platform.bus.urls.values()], tls=operator.client_context(), tls_hostname="nats.octopus.local",
        inbox_prefix=b"_INBOX.operator",
    )  # fmt: skip
    wanted = orjson.dumps({"placement": {"preferred": machine}})
    try:
        async with asyncio.timeout(30):
            while await platform.bus.leader_of_log("m3") != machine:
                await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{LOG}", wanted, timeout=5)
                await asyncio.sleep(0.5)
    finally:
        await client.close()


async def test_people_talk_on_when_the_machine_of_the_logs_leader_is_cut_off(cluster: Machines) -> None:
    await lead_log_from(cluster, "m2")
    async with people(cluster, "m1") as talks:
        cut_at = time.monotonic()
        cluster.network.cut("m2")
        try:
            await all_speak_after(talks, cut_at + 5, within=SERVED_WITHIN_S)
            report("m2 cut off, with the leader of the log, a chat and an edge", talks, cut_at)
            assert await cluster.bus.leader_of_log("m3") != "m2"
        finally:
            cluster.network.heal("m2")
        await cluster.until(cluster.rejoined_stores, within=REJOINED_WITHIN_S)
        await cluster.until(cluster.all_registered, within=REJOINED_WITHIN_S)


async def promote(platform: Machines, survivors: list[str]) -> str:
    """Do what an operator does whose primary is gone: promote the standby that has received most."""
    received = {
        name: int(str(await platform.database.ask(name, "SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn")))
        for name in survivors
    }
    chosen = max(received, key=lambda name: received[name])
    assert await platform.database.ask(chosen, "SELECT pg_promote(true, 30)") is True
    return chosen


async def test_people_talk_on_when_the_machine_of_both_primaries_is_cut_off(cluster: Machines) -> None:
    assert await cluster.primary() == "m1"
    assert await cluster.live_state.primary("m3") == "m1"
    async with people(cluster, "m2") as talks:
        cut_at = time.monotonic()
        cluster.network.cut("m1")
        try:
            chosen = await promote(cluster, [name for name in NAMES if name != "m1"])
            promoted_at = time.monotonic()
            await all_speak_after(talks, promoted_at, within=SERVED_WITHIN_S)
            report("m1 cut off, with the primaries of PostgreSQL and Valkey, a chat and an edge", talks, cut_at)

            async def valkey_failed_over() -> bool:
                """The sentinels have promoted a replica."""
                return await cluster.live_state.primary("m3") != "m1"

            await cluster.until(valkey_failed_over, within=30)
            await newcomer_is_served(cluster)
            print(f"a newcomer was served {time.monotonic() - promoted_at:.1f} s after the promotion of {chosen}")
            # The old primary may not come back as one: it is ended before its machine is heard again.
            old = cluster.children.pop("postgres-m1")
            old.signal(signal.SIGQUIT)
            await old.wait()
        finally:
            cluster.network.heal("m1")
        cluster.database.rewind("m1", chosen)
        cluster.run(cluster.database.command("m1"))
        await cluster.until(cluster.rejoined_stores, within=REJOINED_WITHIN_S)
        await cluster.until(cluster.all_registered, within=REJOINED_WITHIN_S)
        assert await cluster.primary() == chosen


async def newcomer_is_served(cluster: Machines) -> None:
    """Somebody comes, opens a session, and is heard: what needs the database and the live state works again."""
    way_in = cluster.edge("m2")
    async with way_in.channel(own_connection=True) as channel, asyncio.timeout(SERVED_WITHIN_S):
        shop = Shop("qingshan", cluster.logins()["qingshan"], way_in, channel)
        while True:
            try:
                newcomer = await shop.visitor()
                session = await shop.open_session(newcomer)
                await shop.ask_for_a_person(newcomer, session.id)
            except Exception:  # noqa: BLE001 - whatever they are told until all have found the new primary
                await asyncio.sleep(0.2)
                continue
            break
        async with shop.present(newcomer) as participant:
            await participant.say(session.id, "有人吗")
