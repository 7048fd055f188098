"""Failures that are retried fill no log."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from mesh.telemetry.outage import Outage

pytestmark = pytest.mark.unit


def test_each_outage_is_logged_once_at_its_beginning_and_once_at_its_end() -> None:
    with capture_logs() as lines:
        outage = Outage(structlog.get_logger(), "cannot renew, retrying", "renewed again", member="chat-1")
        outage.succeeded()
        for _ in range(2):
            outage.failed(TimeoutError("first"))
            outage.failed(TimeoutError("second"))
            assert outage.lasts
            outage.succeeded()
            outage.succeeded()
    failing = {"event": "cannot renew, retrying", "log_level": "warning", "error": "TimeoutError('first')"}
    working = {"event": "renewed again", "log_level": "info"}
    assert lines == [{**line, "member": "chat-1"} for line in (failing, working, failing, working)]
