"""The contracts' validation rules hold for the generated messages: nothing of them is lost on the way to Python."""

import protovalidate
import pytest
from buf.validate import validate_pb2
from octopus.chat.v1 import chat_service_pb2, frame_pb2

pytestmark = pytest.mark.unit


def test_the_rules_can_be_read_from_the_descriptors() -> None:
    action = chat_service_pb2.SendRequest.DESCRIPTOR.oneofs_by_name["action"]
    assert action.GetOptions().Extensions[validate_pb2.oneof].required


def test_a_message_that_breaks_a_rule_is_refused_by_field_and_rule() -> None:
    with pytest.raises(protovalidate.ValidationError) as refused:
        protovalidate.validate(chat_service_pb2.SendRequest(post=frame_pb2.PostMessage(client_message_id="1")))
    found = {
        ".".join(step.field_name for step in each.proto.field.elements): each.proto.rule_id
        for each in refused.value.violations
        if each.proto.field
    }
    assert found["post.session_id"] == "int64.gt"


def test_a_message_that_keeps_the_rules_passes() -> None:
    protovalidate.validate(chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=1)))
