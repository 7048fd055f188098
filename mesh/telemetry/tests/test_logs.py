import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.unit


def lines(program: str, level: str = "info") -> list[dict[str, Any]]:
    """What a process of its own logs: logging is set once for a process, so not for this one."""
    beginning = (
        "import logging, structlog, warnings\n"
        "from mesh.telemetry.logs import configure_logging\n"
        f"configure_logging('chat', 'chat-1', {level!r})\n"
        "log = structlog.get_logger('services.chat.app')\n"
    )
    done = subprocess.run([sys.executable, "-c", beginning + program], capture_output=True, check=True, text=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_line_says_what_when_and_who() -> None:
    [line] = lines("log.info('session assigned', session_id=2**62)")
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "session assigned",
        "level": "info",
        "process": "chat",
        "instance": "chat-1",
        "logger": "services.chat.app",
        "session_id": 2**62,
    }


def test_lines_below_the_level_are_not_written() -> None:
    assert [line["event"] for line in lines("log.info('quiet'); log.warning('loud')", "warning")] == ["loud"]


def test_a_line_carries_the_trace_and_the_bound_fields() -> None:
    [line] = lines(
        "from opentelemetry import trace\n"
        "from opentelemetry.trace import NonRecordingSpan, SpanContext\n"
        "structlog.contextvars.bind_contextvars(tenant_id='qingshan')\n"
        "with trace.use_span(NonRecordingSpan(SpanContext(trace_id=10, span_id=11, is_remote=True))):\n"
        "    log.info('sent')\n"
    )
    assert (line["trace_id"], line["span_id"], line["tenant_id"]) == (f"{10:032x}", f"{11:016x}", "qingshan")


def test_an_error_is_written_with_its_place_but_without_what_it_quotes() -> None:
    [line] = lines("try:\n    int('电话13800138000')\nexcept ValueError:\n    log.exception('cannot count')\n")
    assert line["error"]["type"] == "ValueError"
    assert "13800138000" not in json.dumps(line)


def test_libraries_write_in_the_same_form_without_their_arguments() -> None:
    [line, warning] = lines(
        "logging.getLogger('nats').warning('lost %s', '13800138000')\n"
        "logging.getLogger('nats').info('chatter')\n"
        "warnings.warn('old', DeprecationWarning, stacklevel=1)\n"
    )
    assert (line["event"], line["level"], line["logger"]) == ("lost %s", "warning", "nats")
    assert warning["logger"] == "py.warnings"
