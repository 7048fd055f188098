"""How fast a person may send, and how slowly a connection may read."""

from __future__ import annotations

import pytest
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2
from prometheus_client import REGISTRY

from mesh.errors import from_rpc_error
from mesh.testing import Platform
from services.chat.tests.conftest import running, text

pytestmark = pytest.mark.service

CUSTOMER, AGENT, STRANGER = 11, 22, 33


async def test_who_sends_too_fast_is_told_when_to_go_on(platform: Platform) -> None:
    async with running(platform, rate_burst=3, rate_per_second=0.1) as chat:
        session = chat.sessions.open(CUSTOMER)
        customer = await chat.converse(CUSTOMER)
        for number in range(5):
            await customer.send(post=text(session.id, str(number)))
        refusals = await customer.next("refusal", 2)
        assert len(await customer.next("ack", 3)) == 3
        for refusal in refusals:
            assert refusal.reason == errors_pb2.REASON_RATE_LIMITED
            assert 0 < refusal.retry_after.ToMilliseconds() <= 10_000
            assert refusal.client_message_id


async def test_who_shows_signs_without_end_is_heard_no_more_than_now_and_then(platform: Platform) -> None:
    async with running(platform, rate_burst=2, rate_per_second=0.1) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        customer = await chat.converse(CUSTOMER)
        agent = await chat.converse(AGENT, "AGENT")
        for _ in range(100):
            await customer.send(typing=frame_pb2.Typing(session_id=session.id))
        refusals = await customer.next("refusal", 92)
        assert {refusal.reason for refusal in refusals} == {errors_pb2.REASON_RATE_LIMITED}
        # Messages have an allowance of their own.
        await customer.send(post=text(session.id, "at last"))
        assert (await agent.next("message"))[0].content.text.text == "at last"
        assert len([frame for frame in agent.frames if frame.HasField("typing")]) == 8


async def test_guessing_sessions_is_limited_too(platform: Platform) -> None:
    async with running(platform, rate_burst=3, rate_per_second=0.1) as chat:
        stranger = await chat.converse(STRANGER)
        for number in range(5):
            await stranger.send(post=text(1_000 + number, "is anybody there?"))
        refusals = await stranger.next("refusal", 5)
        # Sessions do not wait for each other, so neither do their refusals.
        by_session = sorted((refusal.session_id, refusal.reason) for refusal in refusals)
        assert [reason for _, reason in by_session] == (
            [errors_pb2.REASON_NOT_FOUND] * 3 + [errors_pb2.REASON_RATE_LIMITED] * 2
        )


async def test_a_connection_that_does_not_read_is_cut_off_alone(platform: Platform) -> None:
    async with running(platform, buffer_frames=20, rate_burst=10_000, rate_per_second=10_000) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        customer = await chat.converse(CUSTOMER)
        reading = await chat.converse(AGENT, "AGENT")
        sleeping = await chat.converse(AGENT, "AGENT", read=False)
        before = _cut_off()
        sent = 0
        # gRPC's own windows take some megabytes before anything waits here.
        while _cut_off() == before and sent < 8000:
            # Less at once than a buffer holds: who reads, however slowly, is not cut off.
            for _ in range(10):
                await customer.send(post=text(session.id, "x" * 8000))
            sent += 10
            await customer.next("ack", sent, timeout=30)
            await reading.next("message", sent, timeout=30)
        assert len(await reading.next("message", sent)) == sent

        await sleeping.read()
        assert sleeping.error is not None
        assert from_rpc_error(sleeping.error).reason == errors_pb2.REASON_SLOW_READER
        assert _cut_off() == before + 1
        await customer.send(post=text(session.id, "still here"))
        assert (await reading.next("message", sent + 1))[-1].content.text.text == "still here"


async def test_who_missed_more_than_a_buffer_holds_gets_all_of_it(platform: Platform) -> None:
    async with running(
        platform, buffer_frames=20, resume_messages=300, rate_burst=10_000, rate_per_second=10_000
    ) as chat:
        session = chat.sessions.open(CUSTOMER, AGENT, "ACTIVE")
        customer = await chat.converse(CUSTOMER)
        for number in range(300):
            await customer.send(post=text(session.id, f"{number}"))
            # The buffer is for its acknowledgements, too.
            if number % 10 == 9:
                await customer.next("ack", number + 1, timeout=30)

        late = await chat.converse(AGENT, "AGENT")
        assert [message.content.text.text for message in await late.next("message", 300, timeout=30)] == [
            f"{number}" for number in range(300)
        ]


def _cut_off() -> float:
    return REGISTRY.get_sample_value("octopus_chat_streams_ended_total", {"reason": "REASON_SLOW_READER"}) or 0
