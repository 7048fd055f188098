"""Real calls, a real exporter, a real receiver; in a process of its own, which has its own provider."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from mesh.testing.ports import free_port

pytestmark = pytest.mark.service

PROGRAM = Path(__file__).with_name("caller.py")


async def run(*, endpoint: str | None, ratio: float) -> dict[str, Any]:
    """Runs the program that makes two calls to itself, and returns what it saw."""
    settings = json.dumps({"otlp_endpoint": endpoint, "trace_ratio": ratio})
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), settings, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    saw: dict[str, Any] = json.loads(output)
    return saw


async def first(count: int, stream: AsyncGenerator[Span, None]) -> list[Span]:
    async with aclosing(stream):
        return [await anext(stream) for _ in range(count)]


async def test_a_trace_goes_from_client_to_server_and_to_the_collector() -> None:
    port = free_port()
    quiet = OtelTapHttpProtobufReceiverSettings(
        http_port=port,
        listen_on_all_interfaces=False,
        print_traces_as_ndjson=False,
        print_logs_as_ndjson=False,
        print_metrics_as_ndjson=False,
    )
    async with OtelTapHttpProtobufReceiver(quiet) as receiver, asyncio.timeout(30):
        receiving = asyncio.create_task(first(5, cast("AsyncGenerator[Span, None]", receiver.stream_traces())))
        saw = await run(endpoint=f"http://127.0.0.1:{port}", ratio=1)
        spans = await receiving

    root = next(span for span in spans if span.name == "work")
    assert {span.trace_id.hex() for span in spans} == {saw["trace_id"]}
    assert saw["served"] == [saw["trace_id"]] * 2
    for name, code in (("test.Echo/Say", 0), ("test.Echo/Refuse", 7)):
        client, server = sorted((span for span in spans if span.name == name), key=lambda span: -span.kind)
        assert (client.kind, server.kind) == (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
        assert client.parent_span_id == root.span_id
        assert server.parent_span_id == client.span_id
        codes = {
            attribute.key: attribute.value.int_value
            for span in (client, server)
            for attribute in span.attributes
            if attribute.key == "rpc.grpc.status_code"
        }
        assert codes == {"rpc.grpc.status_code": code}


async def test_without_a_collector_the_trace_id_still_passes() -> None:
    saw = await run(endpoint=None, ratio=1)
    assert saw["trace_id"] != "0" * 32
    assert saw["served"] == [saw["trace_id"]] * 2


async def test_a_collector_that_is_gone_delays_the_end_by_seconds_only() -> None:
    async with asyncio.timeout(15):
        await run(endpoint="http://127.0.0.1:1", ratio=1)
