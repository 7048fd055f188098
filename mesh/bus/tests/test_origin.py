"""A member has JetStream's answers sent where it may not publish: nobody believes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import nats
import orjson
import pytest
from nats.aio.client import Client
from octopus.chat.v1.chat_events_pb2 import LogEntry, Signal

from mesh.bus import Bus, Delivery
from mesh.bus.tests.members import entry, member, until
from mesh.identity.files import Identity
from mesh.platform.components.nats import inbox
from mesh.testing import Platform

pytestmark = pytest.mark.store

KEY = "jwks"


@pytest.fixture(autouse=True)
async def fresh(platform: Platform) -> AsyncIterator[None]:
    """Streams that hold nothing, before and afterwards."""
    await platform.nats.wipe()
    yield
    await platform.nats.wipe()


@asynccontextmanager
async def intruder(platform: Platform, name: str) -> AsyncIterator[Client]:
    """A member that went astray, with its own rights alone."""
    client = await nats.connect(
        platform.nats_url,
        tls=Identity(platform.identity, name).client_context(),
        inbox_prefix=inbox(name).encode(),
    )
    try:
        yield client
    finally:
        await client.close()


async def ask(client: Client, api: str, request: Mapping[str, object], answer_to: str) -> None:
    """Ask JetStream, and have it answer to a subject."""
    await client.publish(f"$JS.API.{api}", orjson.dumps(request), reply=answer_to)
    await client.flush()


async def has(platform: Platform, stream: str, count: int) -> None:
    """Wait until a stream holds so many messages."""
    async with asyncio.timeout(30), member(platform, "control") as bus:
        while (await bus.extent_of(stream)).last_seq < count:
            await asyncio.sleep(0.01)


async def planted(chat: Bus, key: str = "worker.77") -> int:
    """Store what is to be reflected where its author may: a value that looks like a log entry too."""
    headers = {"Nats-Msg-Id": "forged", "Octopus-Type": "octopus.chat.v1.LogEntry"}
    return (await chat.publish_raw(f"$KV.workers.{key}", entry(666).SerializeToString(), headers)).seq


async def test_a_key_that_was_reflected_into_a_bucket_is_not_believed(platform: Platform, chat: Bus) -> None:
    async with member(platform, "user") as owner, intruder(platform, "chat") as mallory:
        watch = chat.kv("keys").watch()
        told: list[bytes | None] = []

        async def follow() -> None:
            async for each in watch:
                if each is not None:
                    told.append(each.value)  # noqa: PERF401  # seen while it goes on

        await owner.kv("keys").put(KEY, b"genuine")
        following = asyncio.create_task(follow())
        await until(lambda: told == [b"genuine"])
        seq = await planted(chat)
        await ask(mallory, "DIRECT.GET.KV_workers", {"seq": seq}, f"$KV.keys.{KEY}")
        await ask(mallory, "STREAM.INFO.KV_workers", {}, f"$KV.keys.{KEY}")
        await ask(mallory, "DIRECT.GET.KV_workers", {"seq": seq}, f"kv.keys.{KEY}")
        await ask(mallory, "STREAM.INFO.KV_workers", {}, f"kv.keys.{KEY}")
        # Both reached the bucket, and took the place of what was there.
        await has(platform, "KV_keys", 3)
        assert await chat.kv("keys").get(KEY) is None
        assert await chat.kv("keys").entries() == []
        # Who knows the key keeps it, also when everything is read anew.
        chat.kv("keys").reconnected()
        await owner.kv("keys").put("other", b"next")
        await until(lambda: b"next" in told)
        assert told == [b"genuine", b"next"]
        await owner.kv("keys").create(KEY, b"again")
        await until(lambda: told[-1] == b"again")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert told == [b"genuine", b"next", b"again"]


async def test_what_was_reflected_into_the_log_is_no_message(platform: Platform, chat: Bus) -> None:
    got: list[int] = []

    async def take(delivery: Delivery[LogEntry]) -> None:
        got.append(delivery.message.message.id)

    async with member(platform, "bot") as bot, intruder(platform, "chat") as mallory:
        seq = await planted(chat)
        await ask(mallory, "DIRECT.GET.KV_workers", {"seq": seq}, "log.qingshan.1")
        await ask(mallory, "STREAM.INFO.LOG", {}, "log.qingshan.1")
        await has(platform, "LOG", 2)
        consuming = asyncio.create_task(bot.consume("LOG", "bot", ["log.*.*"], LogEntry, take))
        await chat.publish("log.qingshan.1", entry(7), message_id="7")
        await until(lambda: got == [7])
        # Given up, not tried again and again.
        await has(platform, "DEAD", 2)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        assert got == [7]
        stored = await chat.read("log.qingshan.1", after_seq=0, limit=10)
        assert [each.data for each in stored[:-1]] == [b"\xff", b"\xff"]
        assert LogEntry.FromString(stored[-1].data).message.id == 7


async def test_what_was_reflected_to_those_who_listen_is_not_heard(platform: Platform, chat: Bus) -> None:
    heard: list[tuple[str, bytes]] = []
    live = await chat.subscribe("live.qingshan.*.*", lambda data, _headers, subject: heard.append((subject, data)))
    notices = await chat.subscribe("notice.qingshan.9", lambda data, _headers, subject: heard.append((subject, data)))
    async with intruder(platform, "chat") as mallory, intruder(platform, "bot") as consumer:
        seq = await planted(chat)
        elsewhere = await chat.publish("log.qingshan.2", entry(2), message_id="2")
        for subject in ("live.qingshan.1.message", "live.qingshan.1.signal", "notice.qingshan.9"):
            await ask(mallory, "DIRECT.GET.KV_workers", {"seq": seq}, subject)
            await ask(mallory, "DIRECT.GET.LOG", {"seq": elsewhere.seq}, subject)
            await ask(mallory, "STREAM.INFO.LOG", {}, subject)
            await ask(consumer, "CONSUMER.MSG.NEXT.LOG.bot", {"batch": 1, "no_wait": True}, subject)
        # What was reflected into the log is sent on by the server itself.
        await ask(mallory, "DIRECT.GET.KV_workers", {"seq": seq}, "log.qingshan.1")
        await has(platform, "LOG", 2)
        await chat.signal("live.qingshan.3.signal", Signal())
        await until(lambda: heard[-1:] == [("live.qingshan.3.signal", b"")])
    await live.unsubscribe()
    await notices.unsubscribe()
    assert [subject for subject, _ in heard] == ["live.qingshan.2.message", "live.qingshan.3.signal"]
