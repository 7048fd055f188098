"""What a call meets between the wire and its handler, in every shape."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.knowledge.v1 import knowledge_service_pb2, knowledge_service_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from mesh import deadline
from mesh.errors import Refused, from_rpc_error
from mesh.rpc.metadata import Metadata, with_token
from mesh.rpc.server import RECEIVE_BYTES
from mesh.rpc.tests.conftest import Chat
from mesh.testing.rpc import Keys, dialling, serving

pytestmark = pytest.mark.service

Raw: TypeAlias = grpc.aio.StreamStreamCall[bytes, bytes]

ChatStub = chat_service_pb2_grpc.ChatServiceStub
Request = chat_service_pb2.SendRequest
Response = chat_service_pb2.SendResponse
TYPING = Request(typing=frame_pb2.Typing(session_id=5))


@pytest.fixture
def customer(keys: Keys) -> Metadata:
    return with_token(keys.token("qingshan", 7, "CUSTOMER"))


def post(text: str) -> Request:
    return Request(
        post=frame_pb2.PostMessage(
            session_id=5, client_message_id="abcdefgh", content=message_pb2.Content(text=message_pb2.Text(text=text))
        )
    )


def ping(nonce: int) -> chat_service_pb2.ConverseRequest:
    return chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(ping=frame_pb2.Ping(nonce=nonce))])


async def test_a_request_that_breaks_its_contract_says_where(stub: ChatStub, chat: Chat, customer: Metadata) -> None:
    bad = post("hello")
    bad.post.session_id = -1
    bad.post.client_message_id = "no spaces please"
    with pytest.raises(Refused) as caught:
        await stub.Send(bad, metadata=customer)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert {field for field, _ in caught.value.violations} == {"post.session_id", "post.client_message_id"}
    assert not chat.arrived.is_set()


async def test_bytes_that_are_no_message_are_refused(channel: grpc.aio.Channel, customer: Metadata) -> None:
    raw: Any = channel.unary_unary("/octopus.chat.v1.ChatService/Send")
    with pytest.raises(Refused) as caught:
        await raw(b"\xff\xff\xff", metadata=customer)
    assert caught.value.reason == errors_pb2.REASON_INVALID_ARGUMENT


async def test_strangers_learn_nothing_about_contracts(stub: ChatStub) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(Request())
    assert caught.value.reason == errors_pb2.REASON_TOKEN_MISSING


async def test_a_text_of_a_megabyte_is_refused_with_a_reason(stub: ChatStub, customer: Metadata) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(post("a" * 1_000_000), metadata=customer)
    assert caught.value.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert caught.value.violations[0][0] == "post.content.text.text"


async def test_a_message_above_the_limit_is_refused_before_it_is_read(stub: ChatStub, customer: Metadata) -> None:
    with pytest.raises(Refused) as caught:
        await stub.Send(post("a" * (RECEIVE_BYTES + 1)), metadata=customer)
    assert caught.value.reason == errors_pb2.REASON_TEXT_TOO_LONG
    await stub.Send(TYPING, metadata=customer)


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    for path in ("/octopus.chat.v1.ChatService/Nothing", "/nobody.Knows/This"):
        dial: Any = channel.unary_unary(path)
        call = dial(b"")
        with pytest.raises(Refused):
            await call
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_unexpected_error_tells_a_trace_id_and_nothing_else(
    stub: ChatStub, chat: Chat, customer: Metadata
) -> None:
    async def fail(_: Request) -> Response:
        raise RuntimeError("the password is hunter2")

    chat.send = fail
    trace = "0af7651916cd43dd8448eb211c80319c"
    call = stub.Send(TYPING, metadata=(*customer, ("traceparent", f"00-{trace}-b7ad6b7169203331-00")))
    with capture_logs() as lines, pytest.raises(Refused) as caught:
        await call
    assert caught.value.reason == errors_pb2.REASON_INTERNAL
    assert caught.value.trace_id == trace
    assert caught.value.description == f"internal error; trace {trace}"
    assert [line["log_level"] for line in lines] == ["error", "warning"]


class Ended(Exception):
    reason = "SESSION_ENDED"


async def test_a_domain_error_reaches_the_caller_with_its_reason(
    stub: ChatStub, chat: Chat, customer: Metadata
) -> None:
    async def fail(_: Request) -> Response:
        raise Ended("the session ended at noon")

    chat.send = fail
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=customer)
    assert (caught.value.reason, caught.value.description) == (
        errors_pb2.REASON_SESSION_ENDED,
        "the session ended at noon",
    )


async def test_retry_after_reaches_the_caller(stub: ChatStub, chat: Chat, customer: Metadata) -> None:
    async def fail(_: Request) -> Response:
        raise Refused(errors_pb2.REASON_RATE_LIMITED, "slower, please", retry_after=1.5)

    chat.send = fail
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=customer)
    assert caught.value.retry_after == 1.5


async def test_the_log_has_one_line_and_nothing_that_a_person_wrote(
    stub: ChatStub, chat: Chat, customer: Metadata
) -> None:
    async def fail(_: Request) -> Response:
        raise Ended("x")

    chat.send = fail
    with capture_logs() as lines, pytest.raises(Refused):
        await stub.Send(post("my number is 13812345678"), metadata=customer)
    (line,) = lines
    assert line["method"] == "octopus.chat.v1.ChatService/Send"
    assert (line["code"], line["reason"], line["caller"]) == ("FAILED_PRECONDITION", "SESSION_ENDED", "edge")
    assert (line["tenant"], line["user_id"]) == ("qingshan", 7)
    assert "<24 characters>" in line["request"]
    written = repr(lines)
    assert "13812345678" not in written
    assert customer[0][1] not in written


async def test_calls_are_counted(stub: ChatStub, customer: Metadata) -> None:
    def count(side: str, code: str) -> float:
        method = "octopus.chat.v1.ChatService/Send"
        labels = {"method": method, "code": code}
        return REGISTRY.get_sample_value(f"octopus_rpc_{side}_calls_total", labels) or 0

    before = [count(side, code) for side in ("server", "client") for code in ("OK", "UNAUTHENTICATED")]
    await stub.Send(TYPING, metadata=customer)
    with pytest.raises(Refused):
        await stub.Send(TYPING)
    after = [count(side, code) for side in ("server", "client") for code in ("OK", "UNAUTHENTICATED")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1]
    assert (
        REGISTRY.get_sample_value("octopus_rpc_server_in_flight", {"method": "octopus.chat.v1.ChatService/Send"}) == 0
    )


async def test_the_clients_deadline_is_the_handlers(stub: ChatStub, chat: Chat, customer: Metadata) -> None:
    left: list[float | None] = []

    async def send(_: Request) -> Response:
        left.extend((deadline.remaining(), deadline.shrunk(50.0), deadline.shrunk(0.1)))
        return Response()

    chat.send = send
    await stub.Send(TYPING, metadata=customer, timeout=2.5)
    assert left[0] is not None
    # A tenth is kept for the report, here and once more on the way on; a busy machine takes some, too.
    assert 0.2 < left[0] <= 2.251
    assert left[1] is not None
    assert 0.1 < left[1] <= 0.9 * left[0] + 0.001
    assert left[2] == 0.1


async def test_a_call_without_a_deadline_gets_one(identity: Any, address: str, chat: Chat, customer: Metadata) -> None:
    left: list[float | None] = []

    async def send(_: Request) -> Response:
        left.append(deadline.remaining())
        return Response()

    chat.send = send
    async with dialling(identity, "edge", "chat", address) as channel:
        await ChatStub(channel).Send(TYPING, metadata=customer, timeout=None)
    assert left[0] is not None
    assert deadline.DEFAULT - 5 < left[0] <= deadline.DEFAULT


async def test_a_deadline_that_passes_cancels_the_handler(stub: ChatStub, chat: Chat, customer: Metadata) -> None:
    cancelled = asyncio.Event()

    async def send(_: Request) -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response()

    chat.send = send
    with pytest.raises(Refused) as caught:
        await stub.Send(TYPING, metadata=customer, timeout=1)
    assert caught.value.reason == errors_pb2.REASON_DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await cancelled.wait()


async def test_each_hop_has_less_time_and_says_what_was_too_slow_before_its_caller_gives_up(
    identity: Any, address: str, chat: Chat, customer: Metadata
) -> None:
    """A handler that calls on, with a third hop that never answers: the reason comes back to the first caller."""
    hops: list[float] = []
    reports: list[Refused] = []

    async with dialling(identity, "edge", "chat", address) as channel:
        onward = ChatStub(channel)

        async def send(request: Request) -> Response:
            left = deadline.remaining()
            assert left is not None
            hops.append(left)
            if len(hops) == 3:
                await asyncio.Event().wait()
            try:
                # Asks for the usual 5 seconds.
                return await onward.Send(request, metadata=customer)
            except Refused as refused:
                reports.append(refused)
                raise

        chat.send = send
        started = asyncio.get_running_loop().time()
        with pytest.raises(Refused) as caught:
            await onward.Send(TYPING, metadata=customer, timeout=5)
    took = asyncio.get_running_loop().time() - started
    assert took < 5
    # Said by a service, and not made up here because nobody had answered in time.
    assert caught.value.description == "the deadline passed before the work was done"
    assert [each.reason for each in (*reports, caught.value)] == [errors_pb2.REASON_DEADLINE_EXCEEDED] * 3
    # Two quarters of a second less from hop to hop, as the wire rounds up to whole milliseconds.
    assert hops[0] <= 4.751
    assert hops[1] <= hops[0] - 0.49
    assert hops[2] <= hops[1] - 0.49


async def test_a_call_without_a_whole_request_is_refused_at_once(
    identity: Any, address: str, chat: Chat, customer: Metadata
) -> None:
    """Clients that send no message, or the beginning of one, and then end their half."""
    async with dialling(identity, "edge", "chat", address) as channel:
        for path in ("/octopus.chat.v1.ChatService/Send", "/octopus.chat.v1.ChatService/Subscribe"):
            call: Raw = channel.stream_stream(path)(metadata=customer, timeout=20)
            async with asyncio.timeout(10):
                await call.done_writing()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read()
            assert from_rpc_error(caught.value).reason == errors_pb2.REASON_INVALID_ARGUMENT
        # Strangers learn no more of it than before.
        nobody: Raw = channel.stream_stream("/octopus.chat.v1.ChatService/Send")(timeout=20)
        async with asyncio.timeout(10):
            await nobody.done_writing()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await nobody.read()
        assert from_rpc_error(caught.value).reason == errors_pb2.REASON_TOKEN_MISSING


async def test_a_reason_from_behind_passes_through_to_the_first_caller(
    identity: Any, address: str, chat: Chat, customer: Metadata
) -> None:
    calls = 0
    async with dialling(identity, "edge", "chat", address) as channel:
        onward = ChatStub(channel)

        async def send(request: Request) -> Response:
            nonlocal calls
            calls += 1
            if calls == 1:
                return await onward.Send(request, metadata=customer)
            raise Refused(errors_pb2.REASON_AGENT_NOT_AVAILABLE, "nobody is free", retry_after=3)

        chat.send = send
        with pytest.raises(Refused) as caught:
            await onward.Send(TYPING, metadata=customer)
    assert caught.value.reason == errors_pb2.REASON_AGENT_NOT_AVAILABLE
    assert caught.value.retry_after == 3


async def test_a_server_stream_passes_all_interceptors(stub: ChatStub, chat: Chat, customer: Metadata) -> None:
    request = chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello(device_id="phone"))
    call: Any = stub.Subscribe(request, metadata=customer)
    assert [(await call.read()).frames[0].ping.nonce for _ in range(3)] == [0, 1, 2]
    with capture_logs() as lines:
        call.cancel()
        async with asyncio.timeout(5):
            await chat.cleaned_up.wait()
            while not lines:
                await asyncio.sleep(0.01)
    assert lines[0]["code"] == "CANCELLED"


@pytest.mark.parametrize(
    ("metadata", "request_message", "reason"),
    [
        ((), chat_service_pb2.SubscribeRequest(hello=frame_pb2.Hello()), errors_pb2.REASON_TOKEN_MISSING),
        (None, chat_service_pb2.SubscribeRequest(), errors_pb2.REASON_INVALID_ARGUMENT),
    ],
)
async def test_a_server_stream_is_refused_with_a_reason(
    stub: ChatStub, customer: Metadata, metadata: Metadata | None, request_message: Any, reason: int
) -> None:
    call = stub.Subscribe(request_message, metadata=customer if metadata is None else metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert from_rpc_error(caught.value).reason == reason


async def test_a_conversation_goes_on_after_an_invalid_message(stub: ChatStub, customer: Metadata) -> None:
    call: Any = stub.Converse(metadata=customer)
    await call.write(ping(1))
    assert (await call.read()).frames[0].pong.nonce == 1
    await call.write(chat_service_pb2.ConverseRequest())
    refusal = (await call.read()).frames[0].refusal
    assert refusal.reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert "frame" in refusal.description
    await call.write(ping(2))
    assert (await call.read()).frames[0].pong.nonce == 2
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_conversation_goes_on_after_bytes_that_are_no_message(
    channel: grpc.aio.Channel, customer: Metadata
) -> None:
    call: Any = channel.stream_stream("/octopus.chat.v1.ChatService/Converse")(metadata=customer)
    for frame, is_refused in ((b"\xff\xff", True), (ping(3).SerializeToString(), False)):
        await call.write(frame)
        answer = chat_service_pb2.ConverseResponse.FromString(await call.read())
        assert answer.frames[0].HasField("refusal") is is_refused
    call.cancel()


async def test_a_client_stream_ends_at_an_invalid_message(identity: Any, keys: Keys) -> None:
    taken = 0

    class Importer(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
        async def ImportFaqs(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            nonlocal taken
            async for _ in request_iterator:
                taken += 1
                yield knowledge_service_pb2.ImportFaqsResponse()

    Importer.__abstractmethods__ = frozenset()
    # The other methods of the contract are of no interest here.
    importer = Importer()  # type: ignore[abstract]
    add = partial(knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server, importer)
    metadata = with_token(keys.token("qingshan", 7, "KNOWLEDGE_ADMIN"))
    async with (
        serving(identity, "knowledge", keys, add) as address,
        dialling(identity, "edge", "knowledge", address) as channel,
    ):
        call: Any = channel.stream_stream("/octopus.knowledge.v1.KnowledgeService/ImportFaqs")(metadata=metadata)
        await call.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert from_rpc_error(caught.value).reason == errors_pb2.REASON_INVALID_ARGUMENT
    assert taken == 0


async def test_reflection_names_the_service(
    as_caller: Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]],
) -> None:
    async with as_caller("operator") as channel:
        call: Any = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
    assert "octopus.chat.v1.ChatService" in {each.name for each in answer.list_services_response.service}
