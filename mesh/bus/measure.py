"""Prometheus metrics of the bus. Labels are kinds of things, never tenants or people."""

from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

connected: Final = Gauge("octopus_bus_connected", "Whether the process is connected to NATS: 1 or 0.")
publish_seconds: Final = Histogram(
    "octopus_bus_publish_seconds", "How long it took to store a message.", ["subject"], buckets=_BUCKETS
)
publish_failures: Final = Counter("octopus_bus_publish_failures_total", "Messages that were not stored.", ["subject"])
publish_repeats: Final = Counter("octopus_bus_publish_repeats_total", "Attempts to store a message after the first.")
batch_size: Final = Histogram(
    "octopus_bus_batch_messages", "Messages that were stored as one batch.", buckets=(12, 16, 32, 64, 128, 256)
)
batches_refused: Final = Counter(
    "octopus_bus_batches_refused_total", "Batches that were refused, so that their messages were sent one by one."
)
stream_fill: Final = Gauge(
    "octopus_bus_stream_fill_ratio", "How full a stream is, 0 to 1; reported by the control process.", ["stream"]
)
disk_full: Final = Gauge("octopus_bus_disk_full", "Whether streams refuse messages because of their disk: 1 or 0.")
handling_seconds: Final = Histogram(
    "octopus_bus_handling_seconds", "How long handlers took for a message or a batch.", ["consumer"], buckets=_BUCKETS
)
handled: Final = Counter(
    "octopus_bus_handled_total", "Messages by outcome: done, again, dead.", ["consumer", "outcome"]
)


@cache
def published(kind: str) -> Histogram:
    """Return the histogram of one kind of subject; looking it up by label costs as much as the measured work."""
    return publish_seconds.labels(kind)


@cache
def handled_as(consumer: str, outcome: str) -> Counter:
    """Return the counter of one outcome; see `published`."""
    return handled.labels(consumer, outcome)


def kind_of(subject: str) -> str:
    """Return the first token of a subject: the rest names tenants and people."""
    return subject.partition(".")[0]
