"""One WebSocket and its `Converse` stream.

The close code is 1000 when the client was done, else 4000 plus the number of the `octopus.errors.v1.Reason`, whose
name is the close reason: 4004 is TOKEN_EXPIRED. The WebSocket's own codes (1001 going away, 1009 too big, 1011
no pong) keep their meaning.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Final

import grpc
import orjson
import structlog
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.errors.v1 import errors_pb2
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from edge.bridge.config import BridgeConfig
from edge.bridge.frames import CODECS, Codec, NotAMessage
from mesh.errors import Refused, from_rpc_error
from mesh.rpc.metadata import ACCEPTED, with_token

_log = structlog.get_logger(__name__)

# WebSocket codes from here on belong to applications (RFC 6455, section 7.4.2).
APPLICATION_CODES: Final = 4000

Call = grpc.aio.StreamStreamCall[chat_service_pb2.ConverseRequest, chat_service_pb2.ConverseResponse]


async def carry(ws: ServerConnection, chat: chat_service_pb2_grpc.ChatServiceStub, config: BridgeConfig) -> None:
    """Carry one conversation until either side ends it. Reads no faster than the other side takes."""
    codec = CODECS[ws.subprotocol or ""]
    try:
        hello = await _hello(ws, codec, config)
    except Refused as refused:
        await ws.close(*closing(refused.reason))
        return
    except ConnectionClosed:
        return
    first = hello.frames[0].hello
    token = first.access_token or _bearer(ws)
    first.ClearField("access_token")
    call = chat.Converse(metadata=with_token(token, affinity=_subject(token)))
    upward: asyncio.Task[None] | None = None
    try:
        # A write to a call that was refused meanwhile would put INTERNAL in the place of the reason.
        if any(key == ACCEPTED for key, _ in await call.initial_metadata() or ()):
            await call.write(hello)
            upward = asyncio.create_task(_upward(ws, call, codec, config), name="websocket-to-stream")
        reason = await _downward(ws, call, codec)
    except grpc.aio.AioRpcError as error:
        reason = from_rpc_error(error).reason
    except ConnectionClosed:
        return
    finally:
        if upward is not None:
            upward.cancel()
        call.cancel()
    await ws.close(*closing(reason))


def closing(reason: errors_pb2.Reason.ValueType) -> tuple[int, str]:
    """Return the close code and text for the reason a conversation ended."""
    if reason == errors_pb2.REASON_UNSPECIFIED:
        return 1000, ""
    return APPLICATION_CODES + reason, errors_pb2.Reason.Name(reason).removeprefix("REASON_")


async def _hello(ws: ServerConnection, codec: Codec, config: BridgeConfig) -> chat_service_pb2.ConverseRequest:
    try:
        async with asyncio.timeout(config.hello_within_s):
            request = codec.decode(await ws.recv())
    except TimeoutError:
        raise Refused(errors_pb2.REASON_PROTOCOL, "no hello came in time") from None
    except NotAMessage as problem:
        await _refuse(ws, codec, errors_pb2.REASON_INVALID_ARGUMENT, str(problem))
        raise Refused(errors_pb2.REASON_INVALID_ARGUMENT, str(problem)) from None
    if not request.frames or not request.frames[0].HasField("hello"):
        await _refuse(ws, codec, errors_pb2.REASON_PROTOCOL, "the first frame must be a hello")
        raise Refused(errors_pb2.REASON_PROTOCOL, "the first frame must be a hello")
    if not request.frames[0].hello.access_token and not _bearer(ws):
        await _refuse(
            ws, codec, errors_pb2.REASON_TOKEN_MISSING, "put the access token into hello.access_token or a header"
        )
        raise Refused(errors_pb2.REASON_TOKEN_MISSING, "no token")
    return request


async def _upward(ws: ServerConnection, call: Call, codec: Codec, config: BridgeConfig) -> None:
    try:
        async for data in ws:
            if len(data) > config.max_frame_bytes:
                await _refuse(
                    ws,
                    codec,
                    errors_pb2.REASON_TEXT_TOO_LONG,
                    f"a message has at most {config.max_frame_bytes} bytes, and this one had {len(data)}",
                )
                continue
            try:
                request = codec.decode(data)
            except NotAMessage as problem:
                await _refuse(ws, codec, errors_pb2.REASON_INVALID_ARGUMENT, str(problem))
                continue
            await call.write(request)
        await call.done_writing()
    except (ConnectionClosed, grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # Either side is gone; the downward half learns why and ends the conversation.
        call.cancel()


async def _downward(ws: ServerConnection, call: Call, codec: Codec) -> errors_pb2.Reason.ValueType:
    reason: errors_pb2.Reason.ValueType = errors_pb2.REASON_UNSPECIFIED
    async for response in call:
        for frame in response.frames:
            if frame.HasField("goodbye"):
                reason = frame.goodbye.reason
        await ws.send(codec.encode(response))
    return reason


async def _refuse(ws: ServerConnection, codec: Codec, reason: errors_pb2.Reason.ValueType, description: str) -> None:
    refusal = frame_pb2.Refusal(reason=reason, description=description)
    frame = frame_pb2.ServerFrame(refusal=refusal)
    await ws.send(codec.encode(chat_service_pb2.ConverseResponse(frames=[frame])))


def _bearer(ws: ServerConnection) -> str:
    headers: Mapping[str, str] = ws.request.headers if ws.request is not None else {}
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _subject(token: str) -> int | None:
    """Return whom a token is about, unverified: only good for choosing an instance. Chat verifies the token."""
    try:
        payload = token.split(".")[1]
        subject = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]
        return int(subject)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
