"""Bad frames on good streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from octopus.chat.v1 import chat_service_pb2, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2

from e2e.bad_input.conftest import Scene
from e2e.bad_input.refusals import discreet, words
from e2e.bad_input.streams import (
    JSON,
    PROTO,
    Case,
    GrpcStream,
    RawStream,
    WebSocketStream,
    anything,
    case,
    post,
    websocket,
)
from e2e.clients.edge import Edge, Identity

pytestmark = pytest.mark.e2e


def cases(scene: Scene) -> dict[str, Case]:
    """Frames that are refused, by what is wrong with them."""
    mine = scene.session_id
    # Field 2 of the message is a frame, and in a frame it is a post; these are numbers.
    not_a_frame = b"\x10\x05"
    not_a_post = b"\x12\x02\x10\x05"
    unknown_field = b"\xa2\x06\x02hi"
    unknown_in_frame = b"\x12\x05\xa2\x06\x02hi"
    # Field 1 was the one frame of a message before there could be many.
    as_it_was = b"\x0a\x02\x2a\x00"
    return {
        "garbage": Case(b"\xff\x01garbage " + words().encode(), "{" + words(), "INVALID_ARGUMENT"),
        "nothing": Case(b"", "{}", "INVALID_ARGUMENT"),
        "a number of frames": Case(not_a_frame, json.dumps({"frames": 5}), "INVALID_ARGUMENT"),
        "a wrong type": Case(
            not_a_post, json.dumps({"frames": [{"post": {"sessionId": {"a": words()}}}]}), "INVALID_ARGUMENT"
        ),
        "an unknown field": Case(unknown_field, json.dumps({"shout": words()}), "INVALID_ARGUMENT"),
        "an unknown frame": Case(unknown_in_frame, json.dumps({"frames": [{"shout": words()}]}), "INVALID_ARGUMENT"),
        "a frame outside of the list": Case(as_it_was, json.dumps({"ping": {}}), "INVALID_ARGUMENT"),
        "65 frames": many(65),
        "no message id": case(post(mine, words(), client_message_id=""), "INVALID_ARGUMENT"),
        "a message id of words": case(post(mine, words(), client_message_id=words()), "INVALID_ARGUMENT"),
        "no text": case(post(mine, ""), "INVALID_ARGUMENT"),
        "no session": case(post(0, words()), "INVALID_ARGUMENT"),
        "no content": case(post(mine, None), "INVALID_ARGUMENT"),
        "9 KB of text": case(post(mine, words() + "长" * 3000), "INVALID_ARGUMENT"),
        "1 MB of text": case(post(mine, words() + "x" * 2**20), "TEXT_TOO_LONG or INVALID_ARGUMENT"),
        "a customer's answer": case(
            post(mine, None, content=message_pb2.Content(answer=message_pb2.BotAnswer(text=words()))),
            "ROLE_NOT_ALLOWED",
        ),
        "an unknown session": case(post(4711, words()), "NOT_FOUND"),
        "another customer's session": case(post(scene.anothers, words()), "NOT_FOUND"),
        "another shop's session": case(post(scene.other_shops, words()), "NOT_FOUND"),
        "a second hello": case(frame_pb2.ClientFrame(hello=frame_pb2.Hello()), "PROTOCOL"),
    }


def many(count: int) -> Case:
    """A message of pings."""
    message = chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(ping=frame_pb2.Ping())] * count)
    return Case(message.SerializeToString(), json.dumps(MessageToDict(message)), "INVALID_ARGUMENT")


@asynccontextmanager
async def opened(way: str, edge: Edge, channel: grpc.aio.Channel, who: Identity) -> AsyncIterator[RawStream]:
    """An open stream, after the welcome."""
    async with AsyncExitStack() as stack:
        stream: RawStream
        if way == "grpc":
            call = anything(channel)(metadata=who.metadata)
            stack.callback(call.cancel)
            stream = GrpcStream(call)
        else:
            stream = WebSocketStream(await stack.enter_async_context(websocket(edge, way, token=who.access_token)), way)
        await stream.send(case(frame_pb2.ClientFrame(hello=frame_pb2.Hello()), ""))
        await stream.next("welcome")
        yield stream


@pytest.mark.parametrize("way", ["grpc", PROTO, JSON])
async def test_a_bad_frame_is_refused_and_the_stream_goes_on(
    way: str, edge: Edge, channel: grpc.aio.Channel, fresh_scene: Scene
) -> None:
    async with opened(way, edge, channel, fresh_scene.who) as stream:
        for name, bad in cases(fresh_scene).items():
            await stream.send(bad)
            refusal = (await stream.next("refusal")).refusal
            reason = errors_pb2.Reason.Name(refusal.reason).removeprefix("REASON_")
            assert reason in bad.reason.split(" or "), (name, refusal)
            discreet(refusal.description)
            good = post(fresh_scene.session_id, words())
            await stream.send(case(good, ""))
            ack = (await stream.next("ack")).ack
            assert ack.client_message_id == good.post.client_message_id, name


@pytest.mark.parametrize(("way", "other"), [(PROTO, JSON), (JSON, PROTO)])
async def test_the_other_subprotocols_messages_are_refused(
    way: str, other: str, edge: Edge, fresh_scene: Scene
) -> None:
    good = case(post(fresh_scene.session_id, words()), "")
    async with websocket(edge, way, token=fresh_scene.who.access_token) as ws:
        stream = WebSocketStream(ws, way)
        await stream.send(case(frame_pb2.ClientFrame(hello=frame_pb2.Hello()), ""))
        await stream.next("welcome")
        await WebSocketStream(ws, other).send(good)
        refusal = (await stream.next("refusal")).refusal
        assert refusal.reason == errors_pb2.REASON_INVALID_ARGUMENT
        discreet(refusal.description)
        await stream.send(good)
        await stream.next("ack")
