"""One trace from a shopper's message to the bot's answer and into history, over RPC and JetStream."""

from __future__ import annotations

import asyncio
import secrets
import tomllib
from urllib.parse import urlsplit

import grpc
import pytest
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2, message_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from e2e.people import Shop
from e2e.running import Octopus
from mesh.platform.folder import Folder

pytestmark = pytest.mark.e2e

# Spans leave a process in batches, every five seconds.
WITHIN_S = 20.0


async def test_a_trace_crosses_rpc_and_jetstream(octopus: Octopus, channel: grpc.aio.Channel, qingshan: Shop) -> None:
    settings = tomllib.loads((Folder(octopus.root).config / "chat-1.toml").read_text())
    quiet = OtelTapHttpProtobufReceiverSettings(
        http_port=urlsplit(settings["otlp_endpoint"]).port or 0,
        listen_on_all_interfaces=False,
        print_traces_as_ndjson=False,
        print_logs_as_ndjson=False,
        print_metrics_as_ndjson=False,
    )
    shopper = await qingshan.visitor()
    session = await qingshan.open_session(shopper)
    trace_id, root_id = secrets.token_hex(16), secrets.token_hex(8)
    post = frame_pb2.PostMessage(
        session_id=session.id,
        client_message_id=secrets.token_hex(8),
        content=message_pb2.Content(text=message_pb2.Text(text="你们多久发货？")),
    )
    spans: list[Span] = []

    async def collect(receiver: OtelTapHttpProtobufReceiver) -> None:
        async for span in receiver.stream_traces():
            if span.trace_id.hex() == trace_id:
                spans.append(span)  # noqa: PERF401  # as they come, not when the stream ends

    async with OtelTapHttpProtobufReceiver(quiet) as receiver:
        collecting = asyncio.create_task(collect(receiver), name="collector")
        try:
            await chat_service_pb2_grpc.ChatServiceStub(channel).Send(
                chat_service_pb2.SendRequest(post=post),
                metadata=(*shopper.metadata, ("traceparent", f"00-{trace_id}-{root_id}-01")),
            )
            async with asyncio.timeout(WITHIN_S):
                while not _whole(spans):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"the trace has only {sorted({span.name for span in spans})}")
        finally:
            collecting.cancel()
    (first,) = [span for span in spans if span.parent_span_id.hex() == root_id]
    assert (first.name, first.kind) == ("octopus.chat.v1.ChatService/Send", Span.SPAN_KIND_SERVER)
    # Every span hangs on another one of the trace: nowhere was it begun anew.
    known = {span.span_id for span in spans} | {first.parent_span_id}
    assert all(span.parent_span_id in known for span in spans)


def _whole(spans: list[Span]) -> bool:
    """Whether the message was published, taken by the bot, searched for, and answered."""
    servers = [span.name for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    return (
        any(span.kind == Span.SPAN_KIND_PRODUCER for span in spans)
        and any((span.kind, span.name) == (Span.SPAN_KIND_CONSUMER, "process bot") for span in spans)
        and "octopus.knowledge.v1.KnowledgeService/SearchFaqs" in servers
        # The shopper's, and the bot's answer.
        and servers.count("octopus.chat.v1.ChatService/Send") >= 2
    )
