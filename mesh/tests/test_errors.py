import grpc
import pytest
from octopus.errors.v1 import errors_pb2 as pb

from mesh.errors import CODES, Refused, from_status, refused_from, to_status

pytestmark = pytest.mark.unit

REASONS = [value for name, value in pb.Reason.items() if name != "REASON_UNSPECIFIED"]


@pytest.mark.parametrize("reason", REASONS, ids=pb.Reason.Name)
def test_every_reason_survives_the_wire(reason: pb.Reason.ValueType) -> None:
    sent = Refused(reason, "why", retry_after=1.25, violations=[("a.b[2]", "must be positive")], trace_id="ab12")
    status = to_status(sent)
    back = from_status(status)
    assert status.code == CODES[reason].value[0] > 0
    assert (back.reason, back.description, back.retry_after) == (reason, "why", 1.25)
    assert back.violations == (("a.b[2]", "must be positive"),)
    assert back.trace_id == "ab12"
    assert back.remote


@pytest.mark.parametrize("reason", REASONS, ids=pb.Reason.Name)
def test_a_domain_error_is_known_by_its_reason(reason: pb.Reason.ValueType) -> None:
    error_class = type("SomethingHappened", (Exception,), {"reason": pb.Reason.Name(reason).removeprefix("REASON_")})
    refused = refused_from(error_class("the text of the domain"), trace_id="t1")
    assert refused.reason == reason
    assert refused.description == (
        "internal error; trace t1" if reason == pb.REASON_INTERNAL else "the text of the domain"
    )


def test_a_domain_error_says_when_to_try_again_and_which_field_is_wrong() -> None:
    error = type("Locked", (Exception,), {"reason": "RATE_LIMITED", "retry_after": 2.5, "violations": [("a", "b")]})()
    refused = refused_from(error)
    assert (refused.retry_after, refused.violations) == (2.5, (("a", "b"),))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("password=hunter2"),
        KeyError("13800138000"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "NOT_FOUND"),
        type("Odd", (Exception,), {"reason": "NO_SUCH_REASON"})("secret"),
        type("Odder", (Exception,), {"reason": "UNSPECIFIED"})("secret"),
    ],
)
def test_what_is_not_understood_tells_a_trace_id_and_nothing_else(error: Exception) -> None:
    refused = refused_from(error, trace_id="0af7651916cd43dd8448eb211c80319c")
    assert refused.code is grpc.StatusCode.INTERNAL
    assert refused.description == "internal error; trace 0af7651916cd43dd8448eb211c80319c"
    assert to_status(refused).message == refused.description


def test_a_service_behind_us_that_refuses_us_is_not_the_callers_fault() -> None:
    behind = from_status(to_status(Refused(pb.REASON_CALLER_NOT_ALLOWED, "chat may not call x")))
    assert refused_from(behind, trace_id="t2").reason == pb.REASON_INTERNAL


def test_a_reason_from_a_service_behind_us_reaches_the_caller() -> None:
    behind = from_status(to_status(Refused(pb.REASON_SESSION_ENDED, "the session has ended")))
    assert refused_from(behind).reason == pb.REASON_SESSION_ENDED


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_status_without_details_still_has_a_meaning(code: grpc.StatusCode) -> None:
    status = to_status(Refused(pb.REASON_INTERNAL, "x"))
    status.code = code.value[0]
    del status.details[:]
    assert from_status(status).reason in REASONS


def test_what_grpc_says_of_hosts_and_ports_stays_here() -> None:
    status = to_status(Refused(pb.REASON_UNAVAILABLE, "failed to connect to 10.0.0.7:4711"))
    del status.details[:]
    assert "4711" not in from_status(status).description
