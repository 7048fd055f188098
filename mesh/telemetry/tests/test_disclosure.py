import json

import grpc
import orjson
import pydantic
import pytest
from octopus.chat.v1 import frame_pb2

from mesh.telemetry.disclosure import HIDDEN, disclose, disclose_error

pytestmark = pytest.mark.unit

SAID = "我的手机号是13800138000"


@pytest.mark.parametrize("name", ["token", "refresh_token", "phone", "user_phone", "body", "text", "authorization"])
def test_a_field_named_like_private_data_is_hidden(name: str) -> None:
    assert disclose(SAID, name) == HIDDEN
    assert disclose({"inner": {name: SAID}}) == {"inner": {name: HIDDEN}}


@pytest.mark.parametrize("name", ["session_id", "tokens_left", "context", "seq"])
def test_other_fields_are_written(name: str) -> None:
    assert disclose(17, name) == 17


def test_a_message_is_named_but_not_shown() -> None:
    assert disclose(frame_pb2.PostMessage(session_id=1)) == "<octopus.chat.v1.PostMessage>"


def test_bytes_and_foreign_objects_are_not_shown() -> None:
    class Shopper:
        def __repr__(self) -> str:
            return SAID

    assert disclose(SAID.encode()) == f"<{len(SAID.encode())} bytes>"
    assert SAID not in disclose([Shopper()])[0]


class Form(pydantic.BaseModel):
    age: int


@pytest.mark.parametrize(
    "fail",
    [
        lambda: int(SAID),
        lambda: dict[str, int]()[SAID],
        lambda: SAID.encode("ascii"),
        lambda: json.loads(SAID),
        lambda: orjson.loads(SAID),
        lambda: Form.model_validate({"age": SAID}),
    ],
)
def test_what_a_library_quotes_in_its_error_is_not_written(fail: object) -> None:
    assert callable(fail)
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- any error may quote its input
        fail()
    told = disclose_error(caught.value)
    assert SAID not in json.dumps(told, ensure_ascii=False)
    assert told["type"]
    assert any("test_disclosure.py" in frame for frame in told["at"])


def test_an_error_says_what_it_may_and_names_its_causes() -> None:
    def fail() -> None:
        try:
            int(SAID)
        except ValueError as error:
            raise RuntimeError("the count cannot be read") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    told = disclose_error(caught.value)
    assert told["message"] == "the count cannot be read"
    assert told["cause"]["type"] == "ValueError"
    assert "message" not in told["cause"]


def test_a_group_tells_each_of_its_errors() -> None:
    told = disclose_error(ExceptionGroup("both", [OSError(2, "No such file"), ValueError(SAID)]))
    assert [each["type"] for each in told["errors"]] == ["FileNotFoundError", "ValueError"]


def test_a_failed_call_says_its_code_and_why_there_was_no_connection() -> None:
    def failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)

    assert disclose_error(failure(grpc.StatusCode.INVALID_ARGUMENT, SAID))["message"] == "INVALID_ARGUMENT"
    refused = disclose_error(failure(grpc.StatusCode.UNAVAILABLE, "connection refused"))
    assert refused["message"] == "UNAVAILABLE: connection refused"
