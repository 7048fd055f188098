"""The running call, as the server's interceptors see it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import grpc

from mesh.errors import Refused
from mesh.rpc.policy import Method
from mesh.rpc.principal import Principal

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""A handler as the interceptors call it: `await method(request_or_iterator, context)`."""


@dataclass(slots=True)
class Call:
    """A call's rules, and what the interceptors have found out about it."""

    method: Method
    # True when one answer is due, so that a default deadline makes sense.
    unary: bool
    metadata: dict[str, str]
    # The mesh name on the client's certificate.
    caller: str = ""
    principal: Principal | None = None
    trace_id: str = ""
    # The failure that is sent to the client; None on success.
    refused: Refused | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Return the seconds since the call began."""
        return time.monotonic() - self.started


# gRPC runs each call in a task of its own, so what is set for one call is dropped with its task.
current_call: Final[ContextVar[Call]] = ContextVar("octopus_call")
