"""Traces across the bus: the W3C `traceparent` header carries the sender's span to whoever handles the message."""

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
    """The sender's context out of the headers; an empty one when there is none."""
    return _propagator.extract(headers, context=Context())


def recorded() -> bool:
    """Whether the current trace is recorded: most are not, and then a span would be made for nobody."""
    return trace.get_current_span().is_recording()


@contextmanager
def sending(subject: str, headers: dict[str, str]) -> Iterator[None]:
    """Around a publication in a trace that is recorded: a span of its own, which the headers carry."""
    with _tracer.start_as_current_span(f"publish {kind_of(subject)}", kind=trace.SpanKind.PRODUCER):
        inject(headers)
        yield


@contextmanager
def handling(consumer: str, headers: Mapping[str, str], *, seq: int) -> Iterator[None]:
    """Around the handling of one message: a span that continues the sender's trace."""
    with _tracer.start_as_current_span(
        f"process {consumer}",
        context=extract(headers),
        kind=trace.SpanKind.CONSUMER,
        attributes={"messaging.system": "nats", "messaging.nats.seq": seq},
    ):
        yield
