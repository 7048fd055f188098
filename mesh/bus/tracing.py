"""Traces across the bus: the W3C `traceparent` header carries the sender's span to the handler of the message."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh.bus.measure import kind_of

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("octopus.bus")


def inject(headers: dict[str, str]) -> None:
    """Add the current span to the headers; nothing when there is none."""
    _propagator.inject(headers)


def extract(headers: Mapping[str, str]) -> Context:
    """Return the sender's context from the headers; an empty one when there is none."""
    return _propagator.extract(headers, context=Context())


def recorded() -> bool:
    """Return whether the current trace is recorded: most are not, and then no span is made."""
    return trace.get_current_span().is_recording()


@contextmanager
def sending(subject: str, headers: dict[str, str]) -> Iterator[None]:
    """Run the block, a publication in a recorded trace, in a span of its own, and put it into the headers."""
    with _tracer.start_as_current_span(f"publish {kind_of(subject)}", kind=trace.SpanKind.PRODUCER):
        inject(headers)
        yield


@contextmanager
def handling(consumer: str, headers: Mapping[str, str], *, seq: int) -> Iterator[None]:
    """Run the block, which handles one message, in a span that continues the sender's trace."""
    with _tracer.start_as_current_span(
        f"process {consumer}",
        context=extract(headers),
        kind=trace.SpanKind.CONSUMER,
        attributes={"messaging.system": "nats", "messaging.nats.seq": seq},
    ):
        yield
