"""Dead letters: messages that could not be handled, with payload, headers, and the kind of failure.

The text of an error is left out: it may quote the message. The consumer's log says where it was raised.
"""

from typing import Final

import structlog
from octopus.errors.v1 import errors_pb2

from mesh.bus.errors import BusError
from mesh.bus.payload import MESSAGE_ID_HEADER
from mesh.bus.publish import Publisher
from mesh.bus.pull import Pulled
from mesh.errors import refused_from

_log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 10.0


class DeadLetters:
    """The dead letters of one consumer, on the subject `dead.<stream>.<durable>`."""

    def __init__(self, publisher: Publisher, stream: str, durable: str) -> None:
        self._publisher = publisher
        self._stream = stream
        self._durable = durable
        self._subject = f"dead.{stream}.{durable}"

    async def store(self, pulled: Pulled, error: Exception) -> bool:
        """Copy a message to the dead letters; return whether it was stored."""
        _log.error(
            "message moved to dead letters",
            stream=self._stream,
            durable=self._durable,
            seq=pulled.seq,
            attempts=pulled.attempts,
            error=type(error).__name__,
            exc_info=error,
        )
        try:
            headers = self._headers(pulled, error)
            await self._publisher.publish_raw(self._subject, pulled.data, headers, timeout=_TIMEOUT_S)
        except BusError:
            _log.exception(
                "dead letter not stored, retrying", stream=self._stream, durable=self._durable, seq=pulled.seq
            )
            return False
        return True

    def _headers(self, pulled: Pulled, error: Exception) -> dict[str, str]:
        # NATS would interpret its own headers again, so the id of the message is kept under another name.
        headers = {name: value for name, value in pulled.headers.items() if not name.startswith("Nats-")}
        if original := pulled.headers.get(MESSAGE_ID_HEADER):
            headers["Octopus-Message-Id"] = original
        headers["Octopus-Dead-Reason"] = _reason_of(error)
        headers["Octopus-Dead-Subject"] = pulled.subject
        headers["Octopus-Dead-Seq"] = str(pulled.seq)
        headers["Octopus-Dead-Attempts"] = str(pulled.attempts)
        headers[MESSAGE_ID_HEADER] = f"{self._subject}.{pulled.seq}"
        return headers


def _reason_of(error: Exception) -> str:
    """Return the error's class, and its reason unless that is INTERNAL."""
    refused = refused_from(error)
    name = type(error).__name__
    return name if refused.reason == errors_pb2.REASON_INTERNAL else f"{name}: {refused.reason_name}"
