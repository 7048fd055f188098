"""What passes by itself is refused with a time to wait, so that clients send again what they have not got rid of."""

import pytest
from octopus.chat.v1 import frame_pb2
from octopus.errors.v1 import errors_pb2

from mesh.bus import Unavailable
from mesh.bus.ids import LeaseLost
from mesh.errors import Refused
from services.chat.conversation import refusal_of
from services.chat.domain import SessionOver

pytestmark = pytest.mark.unit

POST = frame_pb2.ClientFrame(post=frame_pb2.PostMessage(session_id=7, client_message_id="a"))


@pytest.mark.parametrize(
    "error",
    [
        LeaseLost("no new ids"),
        Unavailable("the log does not answer"),
        TimeoutError(),
        Refused(errors_pb2.REASON_UNAVAILABLE, "session does not answer", remote=True),
    ],
)
def test_a_message_that_could_not_be_stored_now_is_to_be_sent_again(error: Exception) -> None:
    refusal = refusal_of(error, POST)
    assert refusal.client_message_id == "a"
    assert refusal.retry_after.ToMilliseconds() == 1000


def test_a_time_that_was_said_stays() -> None:
    refusal = refusal_of(Refused(errors_pb2.REASON_UNAVAILABLE, "stopping", retry_after=3.0), POST)
    assert refusal.retry_after.ToMilliseconds() == 3000


def test_what_a_rule_forbids_is_final() -> None:
    assert not refusal_of(SessionOver("the session has ended"), POST).HasField("retry_after")
