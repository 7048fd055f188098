"""Check that a message was published to its subject by a member that may, or sent by the server itself.

NATS (2.15) does not check the reply subject of a request to JetStream. A member could use that to have a stored
message, or an answer of the API, sent to a subject on which it may not publish, as a public key for example. It cannot
choose what the server writes into such an answer:

- a message read from a stream has `Nats-Stream` and `Nats-Subject`, the place where it was stored. A member publishes
  without them, and a message that the server republishes has the stream that belongs to the subject;
- once stored again, it has two of each when it is read or republished;
- other answers have none of the headers that our publishers write.
"""

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from mesh.bus.payload import MESSAGE_ID_HEADER, STREAM_HEADER, SUBJECT_HEADER, TWICE_HEADER, TYPE_HEADER
from mesh.bus.streams import BUCKETS, STREAMS

_log = structlog.get_logger(__name__)

# What the server writes in place of a key that expired.
MARKER_HEADER: Final = "Nats-Marker-Reason"

# What the server republishes, by the subjects' first and last token: the stream, and the first token there.
_LIVE: Final = {
    (stream.republish[1].partition(".")[0], stream.republish[1].rpartition(".")[2]): (
        stream.name,
        stream.republish[0].partition(".")[0],
    )
    for stream in STREAMS
    if stream.republish is not None
}
_TOLD: Final = {bucket.told(""): bucket for bucket in BUCKETS}


def stored_rightly(headers: Mapping[str, str]) -> bool:
    """Return whether a message that was read from a stream was published to it, not reflected into it."""
    return TWICE_HEADER not in headers and (
        TYPE_HEADER in headers or MESSAGE_ID_HEADER in headers or MARKER_HEADER in headers
    )


def consumed_rightly(headers: Mapping[str, str]) -> bool:
    """Return the same for a message from a durable consumer, which has the headers with which it was stored."""
    return STREAM_HEADER not in headers


def sent_rightly(subject: str, headers: Mapping[str, str], reply: str) -> bool:
    """Return whether a message received on a subject was published there, or republished from the right stream."""
    if reply.startswith("$JS."):
        # From a consumer that was created to send it here.
        return False
    stream, source = _source(subject)
    if not stream:
        return STREAM_HEADER not in headers and TYPE_HEADER in headers
    return headers.get(STREAM_HEADER) == stream and headers.get(SUBJECT_HEADER) == source and stored_rightly(headers)


def _source(subject: str) -> tuple[str, str]:
    """Return the stream and the subject that a republished message comes from; empty when it is not republished."""
    first, _, rest = subject.partition(".")
    if first == "kv":
        name, _, key = rest.partition(".")
        bucket = _TOLD.get(f"kv.{name}.")
        return (bucket.stream, bucket.subject(key)) if bucket else ("?", "")
    middle, _, last = rest.rpartition(".")
    known = _LIVE.get((first, last))
    return (known[0], f"{known[1]}.{middle}") if known else ("", "")


class Doubts:
    """Log refused messages: the first, the tenth, the hundredth and so on."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, subject: str, headers: Mapping[str, str]) -> None:
        """Count one more."""
        self._count += 1
        if self._count == 10 ** (len(str(self._count)) - 1):
            _log.error(
                "reflected message refused",
                subject_class=subject.partition(".")[0],
                stream=headers.get(STREAM_HEADER, ""),
                refused=self._count,
            )


def guarded(
    callback: Callable[[bytes, Mapping[str, str], str], None], doubts: Doubts
) -> Callable[[bytes, Mapping[str, str], str, str], None]:
    """Return a callback that is called only for messages of valid origin."""

    def hear(data: bytes, headers: Mapping[str, str], subject: str, reply: str) -> None:
        if sent_rightly(subject, headers, reply):
            callback(data, headers, subject)
        else:
            doubts.note(subject, headers)

    return hear
