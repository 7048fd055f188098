"""The two ways a frame is written on a WebSocket."""

from __future__ import annotations

from typing import Final, Protocol

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError
from octopus.chat.v1 import frame_pb2

PROTOBUF: Final = "octopus.v1.proto"
JSON: Final = "octopus.v1.json"


class NotAFrame(Exception):
    """What came is not a frame of this subprotocol; the text says why."""


class Codec(Protocol):
    """Reads and writes the frames of one subprotocol."""

    def decode(self, data: bytes | str) -> frame_pb2.ClientFrame:
        """Return a client's frame. Raises `NotAFrame`."""

    def encode(self, frame: frame_pb2.ServerFrame) -> bytes | str:
        """Return a server's frame as it goes out."""


class ProtobufCodec:
    """Binary WebSocket messages, one protobuf frame each."""

    def decode(self, data: bytes | str) -> frame_pb2.ClientFrame:
        """Return a client's frame. Raises `NotAFrame`."""
        if isinstance(data, str):
            raise NotAFrame(f"{PROTOBUF} takes binary messages, and this was a text message")
        try:
            return frame_pb2.ClientFrame.FromString(data)
        except DecodeError as error:
            raise NotAFrame("the bytes are not a ClientFrame") from error

    def encode(self, frame: frame_pb2.ServerFrame) -> bytes | str:
        """Return a server's frame as it goes out."""
        return frame.SerializeToString()


class JsonCodec:
    """Text WebSocket messages, one frame each in protobuf's JSON mapping (field names in lowerCamelCase)."""

    def decode(self, data: bytes | str) -> frame_pb2.ClientFrame:
        """Return a client's frame. Raises `NotAFrame`."""
        if isinstance(data, bytes):
            raise NotAFrame(f"{JSON} takes text messages, and this was a binary message")
        try:
            return Parse(data, frame_pb2.ClientFrame())
        except ParseError as error:
            # The parser's own text may quote what a person wrote; it goes to that person only and is not logged.
            raise NotAFrame(f"the text is not a ClientFrame in JSON: {error}") from error

    def encode(self, frame: frame_pb2.ServerFrame) -> bytes | str:
        """Return a server's frame as it goes out."""
        return MessageToJson(frame, indent=None)


CODECS: Final[dict[str, Codec]] = {PROTOBUF: ProtobufCodec(), JSON: JsonCodec()}
