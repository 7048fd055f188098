"""A frame is encoded as it stands in a response."""

from __future__ import annotations

import pytest
from octopus.chat.v1 import chat_service_pb2, frame_pb2, message_pb2

from services.chat.connection import encoded

pytestmark = pytest.mark.unit

# Around the lengths whose own length takes one byte more.
LENGTHS = (0, 1, 100, 120, 125, 126, 127, 128, 130, 8_000, 16_370, 16_390, 70_000)


@pytest.mark.parametrize("length", LENGTHS)
def test_joined_frames_are_a_response(length: int) -> None:
    said = message_pb2.Content(text=message_pb2.Text(text="x" * length))
    frames = [frame_pb2.ServerFrame(message=message_pb2.Message(seq=seq, content=said)) for seq in (1, 2)]
    joined = b"".join(map(encoded, frames))
    assert joined == chat_service_pb2.ConverseResponse(frames=frames).SerializeToString()
    assert joined == chat_service_pb2.SubscribeResponse(frames=frames).SerializeToString()
