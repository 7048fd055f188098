"""What each identity may not do on the bus, tried by each of them; derived from the table of rights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import nats
import pytest

from mesh.bus.streams import BUCKETS, STREAMS
from mesh.identity.files import Identity
from mesh.platform.components.nats import inbox, rights
from mesh.testing import Platform

pytestmark = pytest.mark.store

CONTROL = "control"
ALL_STREAMS = (*(each.name for each in STREAMS), *(each.stream for each in BUCKETS))
IDENTITIES = sorted(rights())


def forbidden(me: str) -> Iterator[str]:
    """Subjects on which this identity must be refused, whatever it writes into the message."""
    yield from forbidden_requests(me)
    yield from forbidden_messages(me)


def forbidden_requests(me: str) -> Iterator[str]:
    """Those of JetStream's API."""
    mine = rights()[me]
    for stream in ALL_STREAMS:
        # To copy, to lose or to read what is not one's own.
        verbs = ["MSG.DELETE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN", "PEER.REMOVE", "UNPIN"]
        verbs += [] if me == CONTROL else ["CREATE", "UPDATE", "DELETE", "PURGE"]
        yield from (f"$JS.API.STREAM.{verb}.{stream}" for verb in verbs)
        # A consumer can send a stream's messages to any subject, so not even one's own is one's own to make.
        yield f"$JS.API.CONSUMER.CREATE.{stream}"
        yield f"$JS.API.CONSUMER.CREATE.{stream}.spy"
        yield f"$JS.API.CONSUMER.CREATE.{stream}.spy.log.*.*"
        yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.spy"
        if me != CONTROL:
            yield f"$JS.API.CONSUMER.CREATE.{stream}.{me}"
            yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{me}"
        for other in IDENTITIES:
            yield from (f"$JS.API.CONSUMER.{verb}.{stream}.{other}" for verb in ("DELETE", "PAUSE", "RESET", "UNPIN"))
            if other != me or stream not in mine.consume:
                yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{other}"
                yield f"$JS.ACK.{stream}.{other}.1.1.1.1.1"
                yield f"dead.{stream}.{other}"
        if stream not in mine.read and not stream.startswith("KV_"):
            yield f"$JS.API.STREAM.MSG.GET.{stream}"
            yield f"$JS.API.DIRECT.GET.{stream}"
            yield f"$JS.API.DIRECT.GET.{stream}.log.qingshan.1"
    yield from ("$SYS.REQ.SERVER.PING", "$JS.API.ACCOUNT.PURGE.x", "$JS.API.META.LEADER.STEPDOWN", "$JS.FC.x", "any")


def forbidden_messages(me: str) -> Iterator[str]:
    """Those of others, and those of the server."""
    mine = rights()[me]
    for other in IDENTITIES:
        if other != me:
            yield f"$KV.registry.{other}.1"
            yield f"{inbox(other)}.1"
    for bucket in BUCKETS:
        # What the server alone tells.
        yield bucket.told("chat.1")
        if bucket.name not in (*mine.write, "registry"):
            yield bucket.subject("any.1")
    yield "live.qingshan.1.message"
    kinds = {subject.partition(".")[0] for subject in mine.publish}
    yield from (f"{kind}.qingshan.1" for kind in ("log", "notice") if kind not in kinds)
    if "live" not in kinds:
        yield "live.qingshan.1.signal"
    for service in IDENTITIES:
        if not any(subject.startswith(f"event.{service}.") for subject in mine.publish):
            yield f"event.{service}.qingshan.1"


@pytest.mark.parametrize("me", IDENTITIES)
async def test_an_identity_keeps_to_its_rights(platform: Platform, me: str) -> None:
    refused: set[str] = set()

    async def note(error: Exception) -> None:
        if "permissions violation for publish to" in str(error).lower():
            refused.add(str(error).split('"')[1].lower())

    client = await nats.connect(
        platform.nats_url,
        tls=Identity(platform.identity, me).client_context(),
        inbox_prefix=inbox(me).encode(),
        error_cb=note,
    )
    subjects = {each.lower(): each for each in forbidden(me)}
    for subject in subjects.values():
        await client.publish(subject, b"{}")
    await client.flush()
    try:
        async with asyncio.timeout(30):
            while subjects.keys() - refused:
                await asyncio.sleep(0.01)
    except TimeoutError:
        pass
    await client.close()
    assert sorted(subjects.keys() - refused) == []


@pytest.mark.parametrize("me", IDENTITIES)
async def test_an_identity_hears_only_what_is_meant_for_it(platform: Platform, me: str) -> None:
    mine = rights()[me]
    refused: set[str] = set()

    async def note(error: Exception) -> None:
        if "permissions violation for subscription to" in str(error).lower():
            refused.add(str(error).split('"')[1].lower())

    client = await nats.connect(
        platform.nats_url,
        tls=Identity(platform.identity, me).client_context(),
        inbox_prefix=inbox(me).encode(),
        error_cb=note,
    )
    wanted = {">", "_INBOX.>", "$JS.>", "$KV.>", "log.>", "event.>", "dead.>", "$SYS.>"}
    wanted |= {f"{inbox(other)}.>" for other in IDENTITIES if other != me}
    wanted |= {each for each in ("live.>", "notice.>") if each not in mine.subscribe}
    for subject in wanted:
        await client.subscribe(subject)
    await client.flush()
    async with asyncio.timeout(30):
        while {each.lower() for each in wanted} - refused:
            await asyncio.sleep(0.01)
    await client.close()
