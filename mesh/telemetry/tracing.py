"""Set up tracing: sampling, and the export of spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from mesh.process.config import ServiceConfig

# Seconds to deliver one batch. It also bounds the shutdown of a process whose collector is unreachable.
_EXPORT_TIMEOUT: Final = 2


@asynccontextmanager
async def tracing(config: ServiceConfig) -> AsyncIterator[TracerProvider]:
    """Trace this process until the end of the block, when the last spans are delivered.

    `config.trace_ratio` of the traces that begin here are recorded, and those that a caller records are continued.
    Spans go to `config.otlp_endpoint` in batches, from a thread of their own; without an endpoint nothing is recorded,
    but trace ids still pass through, so the log's lines of one request can be found together.
    """
    tracer_provider = provider(config)
    # The first provider of a process stays: OpenTelemetry has passed it to earlier callers.
    trace.set_tracer_provider(tracer_provider)
    try:
        yield tracer_provider
    finally:
        await asyncio.to_thread(tracer_provider.shutdown)


def provider(config: ServiceConfig) -> TracerProvider:
    """Return the tracer provider for these settings; the caller shuts it down."""
    resource = Resource(
        {
            "service.namespace": "octopus",
            "service.name": config.name,
            "service.instance.id": config.instance,
            "service.version": config.version,
        }
    )
    if config.otlp_endpoint is None:
        return TracerProvider(sampler=ALWAYS_OFF, resource=resource, shutdown_on_exit=False)
    # Imported on demand: it is slow and takes memory.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    tracer_provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(config.trace_ratio)), resource=resource, shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{config.otlp_endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT)
    tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
    return tracer_provider
