"""One trace from a call to whoever handles what it put into the log."""

from __future__ import annotations

import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2
from opentelemetry import trace

from mesh.bus.tracing import extract
from mesh.rpc.metadata import with_token
from services.chat.tests.conftest import TENANT, Chat, text

pytestmark = pytest.mark.service

CUSTOMER = 11
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01")


async def test_the_trace_of_a_call_goes_on_in_the_log(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    stub = await chat.stub()
    sent = await stub.Send(
        chat_service_pb2.SendRequest(post=text(session.id, "trace me")),
        metadata=(*with_token(chat.token(CUSTOMER)), TRACEPARENT),
    )
    assert await _trace_of(chat, session.id, sent.ack) == TRACE_ID


async def test_the_trace_of_a_stream_goes_on_in_the_log(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    stub = await chat.stub()
    call = stub.Converse(metadata=(*with_token(chat.token(CUSTOMER)), TRACEPARENT))
    await call.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(hello=frame_pb2.Hello())]))
    await call.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(post=text(session.id, "me too"))]))
    async for response in call:
        if response.frames[0].HasField("ack"):
            assert await _trace_of(chat, session.id, response.frames[0].ack) == TRACE_ID
            break
    call.cancel()


async def _trace_of(chat: Chat, session_id: int, ack: frame_pb2.Ack) -> str:
    (stored,) = await chat.bus.read(f"log.{TENANT}.{session_id}", after_seq=ack.seq - 1, limit=1)
    context = trace.get_current_span(extract(stored.headers)).get_span_context()
    return trace.format_trace_id(context.trace_id)
