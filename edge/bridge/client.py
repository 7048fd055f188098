"""One WebSocket: its messages on their way to a line, and what comes back.

The close code is 1000 when the client was done, else 4000 plus the number of the `octopus.errors.v1.Reason`, whose
name is the close reason: 4004 is TOKEN_EXPIRED. The WebSocket's own codes (1001 going away, 1009 too big, 1011
no pong) keep their meaning.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final, cast

import orjson
from octopus.chat.v1 import chat_service_pb2, frame_pb2
from octopus.errors.v1 import errors_pb2
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from edge.bridge.frames import Codec, NotAMessage
from mesh.errors import Refused

if TYPE_CHECKING:
    from edge.bridge.line import Line
    from edge.bridge.server import Service

# WebSocket codes from here on belong to applications (RFC 6455, section 7.4.2).
APPLICATION_CODES: Final = 4000
GOING_AWAY: Final = 1001
_PROTOCOL_ERROR: Final = 1002
_NOT_UTF_8: Final = 1007
_TOO_BIG: Final = 1009
_NO_PONG: Final = 1011

# As in the contract of `RelayService`: what may be under way in a conversation, and what a message costs besides its
# bytes.
_WINDOW: Final = 128 * 1024
_MESSAGE_COST: Final = 64
# Received bytes are reported to chat when they sum up to this.
_TAKEN_AT_ONCE: Final = _WINDOW // 4
# Messages that may wait for the line.
_MOST_EARLY: Final = 16
# Seconds that a client has for its half of the close.
_CLOSE_WITHIN_S: Final = 2.0
# The longest token that chat reads.
_LONGEST_TOKEN: Final = 4096


class WebSocket(WSListener):
    """One client. Driven by callbacks: while it is idle it has no task and no timer of its own."""

    __slots__ = (
        "_asked",
        "_bearer",
        "_closing",
        "_codec",
        "_early",
        "_heard",
        "_line",
        "_number",
        "_owed",
        "_parts",
        "_paused",
        "_service",
        "_traceparent",
        "_transport",
        "_under_way",
    )

    def __init__(self, service: Service, codec: Codec, bearer: str, traceparent: str) -> None:
        self._service = service
        self._codec = codec
        # From the upgrade's headers; the hello's own token goes first.
        self._bearer = bearer
        self._traceparent = traceparent
        self._transport: WSTransport | None = None
        self._line: Line | None = None
        self._number = 0
        # What came before there was a line; None from then on.
        self._early: list[bytes] | None = []
        # The parts of a message that comes in several frames.
        self._parts: list[bytes] | None = None
        # Bytes sent up and not taken yet, bytes taken by the client and not told, whether the client does not take.
        self._under_way = 0
        self._owed = 0
        self._paused = False
        self._heard = True
        self._asked = False
        self._closing = False

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin: a hello must come soon."""
        self._transport = transport
        # Headers are not needed any longer, and one of them is a token.
        transport.request.headers.clear()
        transport.response.headers.clear()
        self._service.came(self)
        self._service.wheel.after(self._service.config.hello_within_s, self._hello_due)
        self._service.wheel.after(self._service.config.ping_interval_s, self._beat)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame of the wire; a message may come in several."""
        self._heard = True
        kind = frame.msg_type
        if kind is WSMsgType.BINARY or kind is WSMsgType.TEXT:
            if frame.fin:
                self._take_whole(frame.get_payload_as_bytes(), text=kind is WSMsgType.TEXT)
            else:
                self._parts = [b"t" if kind is WSMsgType.TEXT else b"b", frame.get_payload_as_bytes()]
        elif kind is WSMsgType.CONTINUATION:
            self._continue(frame)
        elif kind is WSMsgType.CLOSE:
            self._leave()
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End: the client has gone."""
        self._closing = True
        self._transport = None
        self._leave()
        self._service.went(self)

    def pause_writing(self) -> None:
        """Note that the client does not take what it is sent."""
        self._paused = True

    def resume_writing(self) -> None:
        """Note that it does again."""
        self._paused = False
        self._tell_taken()

    # What the line calls.

    def deliver(self, message: bytes) -> None:
        """Send a `ConverseResponse`."""
        transport = self._transport
        if transport is None or self._closing:
            return
        if self._codec.raw:
            transport.send(WSMsgType.BINARY, message)
        else:
            transport.send(WSMsgType.TEXT, self._codec.encode(chat_service_pb2.ConverseResponse.FromString(message)))
        self._owed += len(message)
        if self._owed >= _TAKEN_AT_ONCE and not self._paused:
            self._tell_taken()

    def granted(self, octets: int) -> None:
        """Note that chat has processed this many bytes of the client's messages."""
        before = self._under_way
        self._under_way -= octets
        if before >= _WINDOW > self._under_way and self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def closed(self, reason: errors_pb2.Reason.ValueType) -> None:
        """Close: the conversation has ended."""
        self._line = None
        if reason == errors_pb2.REASON_UNSPECIFIED:
            self.close(1000, "")
        else:
            self.close(APPLICATION_CODES + reason, errors_pb2.Reason.Name(reason).removeprefix("REASON_"))

    def close(self, code: int, reason: str) -> None:
        """Begin the close; the client has some seconds for its half."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._leave()
        # picows has names for the codes of RFC 6455, and accepts any number.
        self._transport.send_close(cast("WSCloseCode", code), reason)
        self._service.wheel.after(_CLOSE_WITHIN_S, self._abort)

    # Its own.

    def _take_whole(self, data: bytes, *, text: bool) -> None:
        if not text:
            self._take(data)
            return
        try:
            words = data.decode()
        except UnicodeDecodeError:
            self.close(_NOT_UTF_8, "")
        else:
            self._take(words)

    def _take(self, data: bytes | str) -> None:
        if self._closing:
            return
        size = len(data) if isinstance(data, bytes) else len(data.encode())
        most = self._service.config.max_frame_bytes
        if size > most:
            self._refuse(
                errors_pb2.REASON_TEXT_TOO_LONG, f"a message has at most {most} bytes, and this one had {size}"
            )
            return
        try:
            if self._early is not None:
                self._take_early(data)
                return
            message = self._codec.passed_on(data)
        except NotAMessage as problem:
            self._refuse(errors_pb2.REASON_INVALID_ARGUMENT, str(problem))
            if self._line is None:
                self.closed(errors_pb2.REASON_INVALID_ARGUMENT)
            return
        self._say(message)

    def _take_early(self, data: bytes | str) -> None:
        """Take a message before there is a line: the first one must be a hello."""
        early = self._early
        if early is None:
            return
        if early:
            early.append(self._codec.passed_on(data))
            if len(early) >= _MOST_EARLY and self._transport is not None:
                self._transport.underlying_transport.pause_reading()
            return
        request = self._codec.decode(data)
        if not request.frames or not request.frames[0].HasField("hello"):
            self._refuse(errors_pb2.REASON_PROTOCOL, "the first frame must be a hello")
            self.closed(errors_pb2.REASON_PROTOCOL)
            return
        hello = request.frames[0].hello
        token = hello.access_token or self._bearer
        if not token:
            self._refuse(errors_pb2.REASON_TOKEN_MISSING, "put the access token into hello.access_token or a header")
            self.closed(errors_pb2.REASON_TOKEN_MISSING)
            return
        if len(token) > _LONGEST_TOKEN:
            self.closed(errors_pb2.REASON_TOKEN_INVALID)
            return
        hello.ClearField("access_token")
        self._bearer = ""
        early.append(request.SerializeToString())
        user_id = _subject(token)
        line = self._service.lines.known(user_id)
        if line is not None:
            self._begin(line, token)
        else:
            self._service.spawn(self._find(user_id, token))

    async def _find(self, user_id: int, token: str) -> None:
        try:
            line = await self._service.lines.find(user_id)
        except Refused as refused:
            self.closed(refused.reason)
        else:
            if self._transport is not None and not self._closing:
                self._begin(line, token)

    def _begin(self, line: Line, token: str) -> None:
        early, self._early = self._early or [], None
        self._line = line
        self._number = line.carry(self, token, self._traceparent, early[0])
        self._under_way += len(early[0]) + _MESSAGE_COST
        self._traceparent = ""
        for message in early[1:]:
            self._say(message)
        if len(early) >= _MOST_EARLY and self._under_way < _WINDOW and self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def _say(self, message: bytes) -> None:
        if self._line is None:
            return
        self._line.say(self._number, message)
        before = self._under_way
        self._under_way += len(message) + _MESSAGE_COST
        if before < _WINDOW <= self._under_way and self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def _continue(self, frame: WSFrame) -> None:
        parts = self._parts
        if parts is None:
            self.close(_PROTOCOL_ERROR, "")
            return
        parts.append(frame.get_payload_as_bytes())
        if sum(map(len, parts)) > self._service.config.max_message_bytes:
            self._parts = None
            self.close(_TOO_BIG, "")
        elif frame.fin:
            self._parts = None
            self._take_whole(b"".join(parts[1:]), text=parts[0] == b"t")

    def _refuse(self, reason: errors_pb2.Reason.ValueType, description: str) -> None:
        frame = frame_pb2.ServerFrame(refusal=frame_pb2.Refusal(reason=reason, description=description))
        self.deliver(chat_service_pb2.ConverseResponse(frames=[frame]).SerializeToString())

    def _tell_taken(self) -> None:
        if self._line is not None and self._owed >= _TAKEN_AT_ONCE:
            self._line.taken(self._number, self._owed)
            self._owed = 0

    def _leave(self) -> None:
        if self._line is not None:
            self._line.gone(self._number)
            self._line = None

    def _hello_due(self) -> None:
        if self._early is not None and not self._early:
            self._refuse(errors_pb2.REASON_PROTOCOL, "no hello came in time")
            self.closed(errors_pb2.REASON_PROTOCOL)

    def _beat(self) -> None:
        """Ping a client that has sent nothing since the last check, and close one that did not answer."""
        transport = self._transport
        if transport is None or self._closing:
            return
        if self._heard:
            self._heard = self._asked = False
        elif self._asked:
            self.close(_NO_PONG, "")
            return
        else:
            self._asked = True
            transport.send_ping()
        self._service.wheel.after(self._service.config.ping_interval_s, self._beat)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)


def _subject(token: str) -> int:
    """Return whom a token is about, unverified: only good for choosing an instance. Chat verifies the token."""
    try:
        payload = token.split(".")[1]
        return int(orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return 0
