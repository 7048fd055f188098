"""Failed calls as exceptions with the reason that the contract gives."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.rpc import error_details_pb2
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from octopus_client.octopus.errors.v1 import Reason

_DOMAIN = "octopus"


class Refused(GRPCError):
    """A call was refused.

    `reason` is why, `retry_after` how long to wait before trying again, and None when that would not help.
    `violations` names each field of the request that breaks a rule, with the rule. `status` and `message` are gRPC's.
    """

    def __init__(self, status: Status, message: str | None, details: Any = None) -> None:
        super().__init__(status, message, details)
        self.reason = Reason.UNSPECIFIED
        self.retry_after: timedelta | None = None
        self.violations: dict[str, str] = {}
        for detail in details or ():
            match detail:
                case error_details_pb2.ErrorInfo() if detail.domain == _DOMAIN and detail.reason in Reason.__members__:
                    self.reason = Reason[detail.reason]
                case error_details_pb2.RetryInfo():
                    self.retry_after = detail.retry_delay.ToTimedelta()
                case error_details_pb2.BadRequest():
                    self.violations = {each.field: each.description for each in detail.field_violations}


def check(status: Status, message: str | None, details: Any) -> None:
    """Raise `Refused` unless the status is OK."""
    if status is not Status.OK:
        raise Refused(status, message, details)
