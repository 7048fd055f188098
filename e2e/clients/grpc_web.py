"""gRPC-Web by the client that the pages use: connect-web, in a node process that takes commands."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc import status_pb2
from octopus.chat.v1 import chat_service_pb2, frame_pb2

from e2e.clients.edge import Edge, Identity
from mesh.errors import Refused, from_status

M = TypeVar("M", bound=Message)

_CHAT = "octopus.chat.v1.ChatService"
_REPOSITORY = Path(__file__).parents[2]
_NODE = Path(sys.executable).with_name("node")
# Bytes of a line: a message of the greatest length, in JSON, with room.
_LINE_LIMIT = 8 * 2**20


class GrpcWebError(Exception):
    """A call failed; carries the status as it came, and what `mesh.errors` makes of it."""

    def __init__(self, code: grpc.StatusCode, text: str, status: status_pb2.Status) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text
        self.status = status
        self.refused: Refused = from_status(status)


class GrpcWebClient:
    """Calls by gRPC-Web. Any number at once; they share the node process and its connections."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._heard: dict[int, asyncio.Queue[dict[str, Any]]] = {}

    async def call(self, method: str, request: Message, answer: type[M], *, token: str = "") -> M:
        """Call a method, e.g. "octopus.user.v1.AuthService/LogIn". Raises `GrpcWebError`."""
        (message,) = [message async for message in self.stream(method, request, answer, token=token)]
        return message

    async def stream(
        self, method: str, request: Message, answer: type[M], *, token: str = ""
    ) -> AsyncGenerator[M, None]:
        """Call a method and yield its answers. Raises `GrpcWebError`."""
        number = next(self._ids)
        heard = self._heard[number] = asyncio.Queue()
        self._say({"id": number, "method": method, "token": token, "request": MessageToDict(request)})
        ended = False
        try:
            while True:
                line = await heard.get()
                if ended := "end" in line:
                    if "code" in line["end"]:
                        raise _error(line["end"])
                    return
                yield ParseDict(line["message"], answer())
        finally:
            del self._heard[number]
            if not ended:
                self._say({"id": number, "cancel": True})

    def _say(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def listen(self) -> None:
        """Hand out what the process says, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if heard := self._heard.get(said["id"]):
                heard.put_nowait(said)


@asynccontextmanager
async def grpc_web_client(edge: Edge, folder: Path) -> AsyncIterator[GrpcWebClient]:
    """Bundle the client into `folder` and run it for as long as the block lasts."""
    program = folder / "client.mjs"
    bundler = _REPOSITORY / "edge/web/node_modules/rolldown/bin/cli.mjs"
    config = _REPOSITORY / "e2e/grpcweb/rolldown.config.mjs"
    bundling = await asyncio.create_subprocess_exec(
        _NODE, bundler, "-c", config, "--configLoader", "native", "-o", program,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await bundling.wait() != 0:
        raise RuntimeError("the gRPC-Web client could not be bundled; `make web` brings what it needs")
    process = await asyncio.create_subprocess_exec(
        _NODE, program, f"https://{edge.address}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(edge.ca)},
    )  # fmt: skip
    client = GrpcWebClient(process)
    listening = asyncio.create_task(client.listen(), name="grpc-web-client")
    try:
        yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await listening
        await process.wait()


class GrpcWeb:
    """`Subscribe` and `Send` over gRPC-Web, as one stream of frames."""

    def __init__(self, client: GrpcWebClient) -> None:
        self._client = client

    @asynccontextmanager
    async def open(self, identity: Identity, hello: frame_pb2.Hello) -> AsyncIterator[_GrpcWebStream]:
        """Open a stream and say hello on it."""
        stream = _GrpcWebStream(self._client, identity.access_token)
        async with asyncio.TaskGroup() as tasks:
            stream.tasks = tasks
            subscribed = tasks.create_task(stream.subscribe(hello), name="subscribe")
            try:
                yield stream
            finally:
                subscribed.cancel()


class _GrpcWebStream:
    tasks: asyncio.TaskGroup

    def __init__(self, client: GrpcWebClient, token: str) -> None:
        self._client = client
        self._token = token
        self._frames: asyncio.Queue[frame_pb2.ServerFrame | None] = asyncio.Queue()

    async def subscribe(self, hello: frame_pb2.Hello) -> None:
        request = chat_service_pb2.SubscribeRequest(hello=hello)
        answers = self._client.stream(
            f"{_CHAT}/Subscribe", request, chat_service_pb2.SubscribeResponse, token=self._token
        )
        try:
            async for response in answers:
                for frame in response.frames:
                    self._frames.put_nowait(frame)
        except GrpcWebError:
            # The participant connects again.
            pass
        finally:
            self._frames.put_nowait(None)

    async def frames(self) -> AsyncIterator[frame_pb2.ServerFrame]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        match frame.WhichOneof("frame"):
            case "post":
                self.tasks.create_task(self._post(frame.post), name="post")
            case "typing":
                await self._send(chat_service_pb2.SendRequest(typing=frame.typing))
            case "receipt":
                await self._send(chat_service_pb2.SendRequest(receipt=frame.receipt))
            case _:
                # Pings and pongs belong to streams that go both ways.
                pass

    async def _post(self, post: frame_pb2.PostMessage) -> None:
        try:
            response = await self._send(chat_service_pb2.SendRequest(post=post))
        except GrpcWebError as error:
            refusal = frame_pb2.Refusal(
                reason=error.refused.reason,
                description=error.refused.description,
                client_message_id=post.client_message_id,
                session_id=post.session_id,
            )
            if error.refused.retry_after is not None:
                refusal.retry_after.FromMilliseconds(int(error.refused.retry_after * 1000))
            self._frames.put_nowait(frame_pb2.ServerFrame(refusal=refusal))
        else:
            self._frames.put_nowait(frame_pb2.ServerFrame(ack=response.ack))

    async def _send(self, request: chat_service_pb2.SendRequest) -> chat_service_pb2.SendResponse:
        return await self._client.call(f"{_CHAT}/Send", request, chat_service_pb2.SendResponse, token=self._token)


def _error(end: dict[str, Any]) -> GrpcWebError:
    # connect's names are those of gRPC in one word: "InvalidArgument".
    name = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in end["code"]).lstrip("_")
    name = "CANCELLED" if name == "CANCELED" else name
    code = grpc.StatusCode[name]
    status = status_pb2.Status(code=code.value[0], message=end["text"])
    for detail in end["details"]:
        status.details.add(type_url=f"type.googleapis.com/{detail['type']}", value=base64.b64decode(detail["value"]))
    if end["header"] and not end["details"]:
        status.MergeFromString(base64.b64decode(end["header"] + "=="))
    return GrpcWebError(code, end["text"], status)
