"""Map exceptions to gRPC statuses, and statuses back to exceptions.

```
Refused                       a failure whose reason is sent to the caller
├── raised here               Refused(REASON_RATE_LIMITED, "...", retry_after=2.0)
├── made from a domain error  an exception with a class attribute `reason = "SESSION_ENDED"`
└── received from a service   from_rpc_error(error)
anything else                 REASON_INTERNAL and a trace id, nothing more
```

Every failed call ends with a `google.rpc.Status` that holds one `ErrorInfo` (domain "octopus", reason from
`octopus.errors.v1.Reason` without its prefix), and `BadRequest` or `RetryInfo` where they help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from octopus.errors.v1 import errors_pb2 as pb

DOMAIN: Final = "octopus"

# A test checks that every reason of the contract is in this table.
CODES: Final[dict[pb.Reason.ValueType, grpc.StatusCode]] = {
    pb.REASON_INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    pb.REASON_TOKEN_MISSING: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_TOKEN_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_TOKEN_EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_CREDENTIALS_WRONG: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_CALLER_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    pb.REASON_ROLE_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    pb.REASON_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.REASON_ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    pb.REASON_VERSION_CONFLICT: grpc.StatusCode.ABORTED,
    pb.REASON_SESSION_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    pb.REASON_SESSION_ENDED: grpc.StatusCode.FAILED_PRECONDITION,
    pb.REASON_RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.REASON_TEXT_TOO_LONG: grpc.StatusCode.INVALID_ARGUMENT,
    pb.REASON_SLOW_READER: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.REASON_HEARTBEAT_MISSED: grpc.StatusCode.ABORTED,
    pb.REASON_STREAM_TOO_OLD: grpc.StatusCode.ABORTED,
    pb.REASON_PROTOCOL: grpc.StatusCode.FAILED_PRECONDITION,
    pb.REASON_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.REASON_DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    pb.REASON_AGENT_NOT_AVAILABLE: grpc.StatusCode.FAILED_PRECONDITION,
    pb.REASON_DISABLED: grpc.StatusCode.PERMISSION_DENIED,
    pb.REASON_INTERNAL: grpc.StatusCode.INTERNAL,
    pb.REASON_STORAGE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.REASON_TOO_LATE: grpc.StatusCode.FAILED_PRECONDITION,
    pb.REASON_TOKEN_REVOKED: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_SENSITIVE_WORD: grpc.StatusCode.INVALID_ARGUMENT,
}

# The reason of a status without `ErrorInfo`: it comes from the gRPC core or from Envoy, not from a servicer.
_BARE: Final[dict[grpc.StatusCode, pb.Reason.ValueType]] = {
    grpc.StatusCode.CANCELLED: pb.REASON_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: pb.REASON_DEADLINE_EXCEEDED,
    grpc.StatusCode.INVALID_ARGUMENT: pb.REASON_INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND: pb.REASON_NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED: pb.REASON_CALLER_NOT_ALLOWED,
    # The core's status for a message above the size limit.
    grpc.StatusCode.RESOURCE_EXHAUSTED: pb.REASON_TEXT_TOO_LONG,
    grpc.StatusCode.UNAUTHENTICATED: pb.REASON_TOKEN_INVALID,
    grpc.StatusCode.UNAVAILABLE: pb.REASON_UNAVAILABLE,
}


class Refused(Exception):
    """A failure that is sent to the caller: its reason, a description, and when to retry.

    `description` is English, for developers, and is sent to the caller: it must not contain personal data or secrets.
    `retry_after` is in seconds. `violations` are pairs of a field path and what is wrong with it. `metadata` goes into
    `ErrorInfo.metadata`: what a client needs to word the failure, under the same rule as the description.
    `remote` is true for a failure that `from_rpc_error` received from another service.
    """

    def __init__(
        self,
        reason: pb.Reason.ValueType,
        description: str,
        *,
        retry_after: float | None = None,
        violations: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
        trace_id: str = "",
        remote: bool = False,
    ) -> None:
        super().__init__(description)
        self.reason = reason
        self.description = description
        self.retry_after = retry_after
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.trace_id = trace_id
        self.remote = remote

    @property
    def code(self) -> grpc.StatusCode:
        """Return the gRPC status code of the reason."""
        return CODES[self.reason]

    @property
    def reason_name(self) -> str:
        """Return the reason as in `ErrorInfo`, e.g. "SESSION_ENDED"."""
        return pb.Reason.Name(self.reason).removeprefix("REASON_")

    def __repr__(self) -> str:
        return f"Refused({self.reason_name}, {self.description!r})"


def refused_from(error: BaseException, *, trace_id: str = "") -> Refused:
    """Return the failure to send to the caller for an exception.

    A `Refused` stays as it is, a domain error gets its reason and keeps its text, a failed outgoing call is
    mapped back, and everything else becomes REASON_INTERNAL with the trace id alone.
    """
    match error:
        case Refused(remote=True, reason=pb.REASON_CALLER_NOT_ALLOWED | pb.REASON_INTERNAL):
            # The caller is not at fault when another service refuses this one.
            return internal(trace_id)
        case Refused():
            return error
        case grpc.aio.AioRpcError():
            return refused_from(from_rpc_error(error), trace_id=trace_id)
        case TimeoutError():
            return Refused(pb.REASON_DEADLINE_EXCEEDED, "the deadline passed before the work was done")
    # Read from the class: instances of other libraries' exceptions have a `reason` too (SSLError, UnicodeDecodeError).
    reason = getattr(type(error), "reason", None)
    value = _value_of(reason) if isinstance(reason, str) else None
    # The text of a domain error with the reason INTERNAL is for the log only.
    if value is None or value == pb.REASON_INTERNAL:
        return internal(trace_id)
    text = str(error) or pb.Reason.Name(value).removeprefix("REASON_").replace("_", " ").lower()
    retry_after, violations = getattr(error, "retry_after", None), getattr(error, "violations", ())
    metadata = getattr(error, "metadata", None)
    return Refused(value, text, retry_after=retry_after, violations=violations, metadata=metadata)


def internal(trace_id: str) -> Refused:
    """Return an internal error, which contains the trace id and nothing else."""
    where = f"; trace {trace_id}" if trace_id else ""
    return Refused(pb.REASON_INTERNAL, f"internal error{where}", trace_id=trace_id)


def to_status(refused: Refused) -> status_pb2.Status:
    """Return the `google.rpc.Status` of a failure."""
    # grpc's codes are (number, text) pairs.
    status = status_pb2.Status(code=refused.code.value[0], message=refused.description)
    info = error_details_pb2.ErrorInfo(reason=refused.reason_name, domain=DOMAIN)
    info.metadata.update(refused.metadata)
    if refused.trace_id:
        info.metadata["trace_id"] = refused.trace_id
    status.details.add().Pack(info)
    if refused.violations:
        bad = error_details_pb2.BadRequest()
        for field, description in refused.violations:
            bad.field_violations.add(field=field, description=description)
        status.details.add().Pack(bad)
    if refused.retry_after is not None:
        delay = duration_pb2.Duration(nanos=0)
        delay.FromMicroseconds(round(refused.retry_after * 1_000_000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> Refused:
    """Return the failure that a status describes. Without our `ErrorInfo`, its code decides."""
    reason: pb.Reason.ValueType | None = None
    trace_id = ""
    metadata: dict[str, str] = {}
    retry_after: float | None = None
    violations: list[tuple[str, str]] = []
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            if info.domain == DOMAIN:
                reason = _value_of(info.reason)
                metadata = dict(info.metadata)
                trace_id = metadata.pop("trace_id", "")
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = [(violation.field, violation.description) for violation in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToMicroseconds() / 1_000_000
    description = status.message
    if reason is None:
        code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
        reason = _BARE.get(code, pb.REASON_INTERNAL)
        # gRPC's own message contains hosts and ports, which callers must not see.
        description = f"the call ended with {code.name} on its way to the service"
    return Refused(
        reason,
        description,
        retry_after=retry_after,
        violations=violations,
        metadata=metadata,
        trace_id=trace_id,
        remote=True,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> Refused:
    """Return the failure of an outgoing call with the reason that the service sent."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what a call has, without the base class
    except ValueError:
        # The details contradict the code: a proxy changed one of them. The transport's code is used.
        status = None
    if status is None:
        status = status_pb2.Status(code=error.code().value[0], message=error.details() or "")
    return from_status(status)


_CODE_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


def _value_of(name: str) -> pb.Reason.ValueType | None:
    full = f"REASON_{name}"
    if name == "UNSPECIFIED" or full not in pb.Reason.keys():  # noqa: SIM118  # an enum wrapper, not a dict
        return None
    return pb.Reason.Value(full)
