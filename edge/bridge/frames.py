"""The two ways a message is written on a WebSocket."""

from __future__ import annotations

from typing import Final, Protocol

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError
from octopus.chat.v1.chat_service_pb2 import ConverseRequest, ConverseResponse

PROTOBUF: Final = "octopus.v1.proto"
JSON: Final = "octopus.v1.json"


class NotAMessage(Exception):
    """The data is not a message of this subprotocol; the text says why."""


class Codec(Protocol):
    """Reads and writes the messages of one subprotocol."""

    # Whether messages go out as they are.
    raw: bool

    def passed_on(self, data: bytes | str) -> bytes:
        """Return a client's message as chat reads it. Raises `NotAMessage`; chat may find out later that it is none."""

    def decode(self, data: bytes | str) -> ConverseRequest:
        """Return a client's message. Raises `NotAMessage`."""

    def encode(self, message: ConverseResponse) -> bytes | str:
        """Return a server's message as it goes out."""


class ProtobufCodec:
    """Binary WebSocket messages, passed on as they are."""

    raw = True

    def passed_on(self, data: bytes | str) -> bytes:
        """Return a client's message as chat reads it. Raises `NotAMessage`."""
        if isinstance(data, str):
            raise NotAMessage(f"{PROTOBUF} takes binary messages, and this was a text message")
        return data

    def decode(self, data: bytes | str) -> ConverseRequest:
        """Return a client's message. Raises `NotAMessage`."""
        try:
            return ConverseRequest.FromString(self.passed_on(data))
        except DecodeError as error:
            raise NotAMessage("the bytes are not a ConverseRequest") from error

    def encode(self, message: ConverseResponse) -> bytes | str:
        """Return a server's message as it goes out."""
        return message.SerializeToString()


class JsonCodec:
    """Text WebSocket messages in protobuf's JSON mapping (field names in lowerCamelCase)."""

    raw = False

    def passed_on(self, data: bytes | str) -> bytes:
        """Return a client's message as chat reads it. Raises `NotAMessage`."""
        return self.decode(data).SerializeToString()

    def decode(self, data: bytes | str) -> ConverseRequest:
        """Return a client's message. Raises `NotAMessage`."""
        if isinstance(data, bytes):
            raise NotAMessage(f"{JSON} takes text messages, and this was a binary message")
        try:
            return Parse(data, ConverseRequest())
        except ParseError as error:
            # The parser's own text may quote what a person wrote; it goes to that person only and is not logged.
            raise NotAMessage(f"the text is not a ConverseRequest in JSON: {error}") from error

    def encode(self, message: ConverseResponse) -> bytes | str:
        """Return a server's message as it goes out."""
        return MessageToJson(message, indent=None)


CODECS: Final[dict[str, Codec]] = {PROTOBUF: ProtobufCodec(), JSON: JsonCodec()}
