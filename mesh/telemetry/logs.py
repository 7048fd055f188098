"""The log: one JSON object a line on standard output, with the trace it belongs to.

```
_log = structlog.get_logger(__name__)
_log.info("session assigned", session_id=session.id)
```
The event is a constant text; variable values are fields.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, BinaryIO, Final

import orjson
import structlog
from opentelemetry import trace

from mesh.telemetry.disclosure import disclose, disclose_error

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
Fields = MutableMapping[str, Any]


def configure_logging(process: str, instance: str = "", level: str = "info", *, stream: BinaryIO | None = None) -> None:
    """Send every log line of this process, the libraries' too, to standard output or `stream`.

    Each line says which `process` and `instance` wrote it. Levels are debug, info, warning and error; lines of
    libraries that use the standard library's logging are written from warning on.
    """
    output = stream or sys.stdout.buffer
    named = {"process": process, "instance": instance} if instance else {"process": process}

    def who(_: Any, __: str, fields: Fields) -> Fields:
        fields.update(named)
        return fields

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            who,
            _logger_name,
            _trace_ids,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *names: _Output(output, *names),
        cache_logger_on_first_use=True,
    )
    handler = _FromLibraries()
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[level], logging.WARNING), force=True)
    logging.captureWarnings(True)


class _Output(structlog.BytesLogger):
    """Writes lines with the module they come from."""

    def __init__(self, file: BinaryIO, name: str = "") -> None:
        super().__init__(file)
        self.name = name


class _FromLibraries(logging.Handler):
    """Formats the lines of libraries in the same way.

    Their text is taken without its arguments, and only its first line: their arguments may contain personal data.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a failure to do so must not fail the logged work."""
        try:
            log = structlog.get_logger(record.name)
            log.log(record.levelno, str(record.msg).partition("\n")[0], exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 -- the standard library's way to report this to standard error
            self.handleError(record)


def _logger_name(logger: Any, _: str, fields: Fields) -> Fields:
    if name := getattr(logger, "name", ""):
        fields["logger"] = name
    return fields


def _trace_ids(_: Any, __: str, fields: Fields) -> Fields:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        fields["trace_id"] = trace.format_trace_id(context.trace_id)
        fields["span_id"] = trace.format_span_id(context.span_id)
    return fields


def _render(_: Any, __: str, fields: Fields) -> bytes:
    exc_info = fields.pop("exc_info", None)
    line = {name: disclose(value, name) for name, value in fields.items()}
    if error := _error(exc_info):
        line["error"] = disclose_error(error)
    return orjson.dumps(line)


def _error(exc_info: Any) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case None | False | (None, None, None):
            return None
        case _:
            return sys.exc_info()[1]
