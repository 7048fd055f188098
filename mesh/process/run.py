"""The biography of a process: settings, log, signals, life, end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, TypeVar

from mesh.process.config import ServiceConfig
from mesh.process.member import Member

C = TypeVar("C", bound=ServiceConfig)

App = Callable[[Member, C], AbstractAsyncContextManager[None]]
"""The one place that wires a service: opens, constructs, serves, yields, closes."""


def run(app: App[C], settings: type[C]) -> NoReturn:
    """Runs a process until a signal ends it; the exit code is 0 unless something failed."""
    raise NotImplementedError
