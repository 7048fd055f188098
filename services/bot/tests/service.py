"""The whole bot in this process, between services that a test has in its hands.

The conversation log is a real one. The chat service of the test keeps the promises of the contract with it: an answer
is stored once for each `client_message_id`, and only behind the entry that the bot expected to be the last.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from octopus.bot.v1.bot_service_pb2_grpc import BotServiceStub
from octopus.chat.v1 import chat_events_pb2, chat_service_pb2, chat_service_pb2_grpc, frame_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.knowledge.v1 import faq_pb2, knowledge_service_pb2, knowledge_service_pb2_grpc
from octopus.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from mesh.bus import Bus, Conflict, connect
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.process.member import Member
from mesh.rpc import principal
from mesh.testing import Platform
from mesh.testing.first_release import stored_by_the_first_release
from mesh.testing.ports import free_port
from mesh.testing.rpc import Keys, dialling, serving
from services.bot.app import app
from services.bot.config import BotConfig

CUSTOMER = 77

_numbers = itertools.count(1)


def hit(faq_id: int, question: str, answer: str, score: float, locale: str = "zh-CN") -> knowledge_service_pb2.FaqHit:
    content = faq_pb2.FaqContent(question=question, answer=answer, locale=locale)
    return knowledge_service_pb2.FaqHit(faq=faq_pb2.Faq(id=faq_id, content=content, version=1), score=score)


SURE = [hit(1, "多久发货？", "24 小时内发出。", 0.93), *(hit(n, f"别的{n}", "…", 0.85) for n in range(2, 8))]
UNSURE = [hit(n, f"问题{n}", "…", 0.89) for n in range(1, 8)]


class Knowledge(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
    """Finds what it was told to find for a text, and fails or waits when told to."""

    def __init__(self) -> None:
        self.found: dict[str, list[knowledge_service_pb2.FaqHit]] = {}
        self.fails: set[str] = set()
        # A search for one of these waits for the event.
        self.held: dict[str, asyncio.Event] = {}
        self.searched: list[tuple[str, str]] = []

    async def SearchFaqs(
        self, request: knowledge_service_pb2.SearchFaqsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> knowledge_service_pb2.SearchFaqsResponse:
        self.searched.append((principal.current().tenant_id, request.query))
        if request.query in self.held:
            await self.held[request.query].wait()
        if request.query in self.fails:
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "away")
        return knowledge_service_pb2.SearchFaqsResponse(hits=self.found.get(request.query, UNSURE)[: request.limit])


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    """Notes who asked for a person."""

    def __init__(self) -> None:
        self.handoffs: list[tuple[str, int, int]] = []
        self.refuses_with: errors_pb2.Reason.ValueType | None = None

    async def RequestHandoff(
        self, request: session_service_pb2.RequestHandoffRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> session_service_pb2.RequestHandoffResponse:
        assert principal.current().is_service
        if self.refuses_with is not None:
            raise Refused(self.refuses_with, "not now")
        self.handoffs.append((principal.current().tenant_id, request.session_id, request.reason))
        return session_service_pb2.RequestHandoffResponse()


class Chat(chat_service_pb2_grpc.ChatServiceServicer):
    """Stores what the bot says in the log."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.typing: list[int] = []
        self.posts: list[frame_pb2.PostMessage] = []
        # Posts that are refused as unavailable before, and after, they were stored.
        self.lost_requests = 0
        self.lost_answers = 0
        self.refuses_with: errors_pb2.Reason.ValueType | None = None

    async def Send(
        self, request: chat_service_pb2.SendRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> chat_service_pb2.SendResponse:
        caller = principal.current()
        assert caller.is_service
        if request.WhichOneof("action") == "typing":
            self.typing.append(request.typing.session_id)
            return chat_service_pb2.SendResponse()
        self.posts.append(request.post)
        if self.refuses_with is not None:
            raise Refused(self.refuses_with, "not now")
        if self.lost_requests:
            self.lost_requests -= 1
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "away")
        seq = await self._store(caller.tenant_id, request.post)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "the answer was lost")
        return chat_service_pb2.SendResponse(ack=frame_pb2.Ack(seq=seq))

    async def _store(self, tenant_id: str, post: frame_pb2.PostMessage) -> int:
        message = message_pb2.Message(
            id=next(_numbers),
            session_id=post.session_id,
            sender=message_pb2.Sender(kind=message_pb2.SENDER_KIND_BOT),
            client_message_id=post.client_message_id,
            content=post.content,
        )
        entry = chat_events_pb2.LogEntry(
            message=message, tenant_id=tenant_id, session_state=session_pb2.SESSION_STATE_BOT
        )
        try:
            ack = await self._bus.publish(
                f"log.{tenant_id}.{post.session_id}",
                entry,
                message_id=f"{post.session_id}.BOT.0.{post.client_message_id}",
                expected_last_subject_sequence=post.expected_last_seq if post.HasField("expected_last_seq") else None,
            )
        except Conflict as conflict:
            raise Refused(errors_pb2.REASON_VERSION_CONFLICT, "the log has moved") from conflict
        return ack.seq


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One session of one shop, as its customer and the platform write into it."""

    bus: Bus
    tenant: str
    id: int = field(default_factory=lambda: 1_000_000 + next(_numbers))

    @property
    def subject(self) -> str:
        return f"log.{self.tenant}.{self.id}"

    async def say(
        self,
        text: str,
        *,
        state: session_pb2.SessionState.ValueType = session_pb2.SESSION_STATE_BOT,
        kind: message_pb2.SenderKind.ValueType = message_pb2.SENDER_KIND_CUSTOMER,
    ) -> int:
        """Puts a text into the log; gives its seq."""
        message = message_pb2.Message(
            session_id=self.id,
            sender=message_pb2.Sender(user_id=CUSTOMER, kind=kind),
            content=message_pb2.Content(text=message_pb2.Text(text=text)),
        )
        return await self._put(message, state)

    async def said_by_the_first_release(self, text: str) -> None:
        """Put a text into the log as the first release stored it."""
        message = message_pb2.Message(id=next(_numbers), session_id=self.id)
        message.sender.kind = message_pb2.SENDER_KIND_CUSTOMER
        message.content.text.text = text
        entry = chat_events_pb2.LogEntry(
            message=message,
            tenant_id=self.tenant,
            customer_id=CUSTOMER,
            session_state=session_pb2.SESSION_STATE_BOT,
        )
        headers = {"Octopus-Type": "octopus.chat.v1.LogEntry", "Nats-Msg-Id": f"test-{self.id}-{message.id}"}
        await self.bus.publish_raw(self.subject, stored_by_the_first_release(entry), headers)

    async def change(self, state: session_pb2.SessionState.ValueType, *, accepted: bool = False) -> int:
        """Put a change of the session's state into the log; `accepted` when an agent has accepted it, now or before."""
        session = session_pb2.Session(id=self.id, state=state)
        if accepted:
            session.accepted_at.GetCurrentTime()
        message = message_pb2.Message(
            session_id=self.id,
            sender=message_pb2.Sender(kind=message_pb2.SENDER_KIND_SYSTEM),
            content=message_pb2.Content(change=message_pb2.SessionChange(session=session)),
        )
        return await self._put(message, state)

    async def recall(self, seq: int) -> int:
        """The customer takes a message back."""
        message = message_pb2.Message(
            session_id=self.id,
            sender=message_pb2.Sender(user_id=CUSTOMER, kind=message_pb2.SENDER_KIND_CUSTOMER),
            content=message_pb2.Content(recall=message_pb2.Recall(target_seq=seq)),
        )
        return await self._put(message, session_pb2.SESSION_STATE_BOT)

    async def _put(self, message: message_pb2.Message, state: session_pb2.SessionState.ValueType) -> int:
        message.id = next(_numbers)
        entry = chat_events_pb2.LogEntry(
            message=message, tenant_id=self.tenant, customer_id=CUSTOMER, session_state=state
        )
        return (await self.bus.publish(self.subject, entry, message_id=f"test-{self.id}-{message.id}")).seq

    async def first(self) -> int:
        """Return where the first entry of the session stands."""
        (stored,) = await self.bus.read(self.subject, after_seq=0, limit=1)
        return stored.seq

    async def answers(self) -> list[message_pb2.BotAnswer]:
        """What the bot has said so far."""
        stored = await self.bus.read(self.subject, after_seq=0, limit=100)
        entries = [chat_events_pb2.LogEntry.FromString(each.data) for each in stored]
        return [entry.message.content.answer for entry in entries if entry.message.content.HasField("answer")]

    async def answer(self, count: int = 1) -> message_pb2.BotAnswer:
        """Waits for the bot's answer number `count`."""

        async def there() -> bool:
            return len(await self.answers()) >= count

        await eventually(there, f"answer {count} in session {self.id}")
        return (await self.answers())[count - 1]


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within: float = 40.0) -> None:
    """Waits until something is so."""
    try:
        async with asyncio.timeout(within):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None


@dataclass(frozen=True, kw_only=True)
class Bot:
    """What a test works with."""

    knowledge: Knowledge
    sessions: Sessions
    chat: Chat
    bus: Bus
    keys: Keys
    edge: BotServiceStub

    def conversation(self, tenant: str = "qingshan") -> Conversation:
        return Conversation(bus=self.bus, tenant=tenant)


@asynccontextmanager
async def bot(platform: Platform) -> AsyncIterator[Bot]:
    """Runs the bot and the services around it."""
    keys = Keys()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        user = Identity(platform.identity, "user")
        user_bus = await enter(connect(platform.nats_url, "user", tls=user.client_context))
        await user_bus.kv("keys").put("jwks", keys.jwks().encode())
        bus = await enter(connect(platform.nats_url, "chat", tls=Identity(platform.identity, "chat").client_context))
        knowledge, sessions, chat = Knowledge(), Sessions(), Chat(bus)  # type: ignore[abstract]  # have what is called
        registrations: dict[str, Callable[[grpc.aio.Server], None]] = {
            "knowledge": lambda server: knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(
                knowledge, server
            ),
            "session": lambda server: session_service_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server),
            "chat": lambda server: chat_service_pb2_grpc.add_ChatServiceServicer_to_server(chat, server),
        }
        addresses = {
            name: await enter(serving(platform.identity, name, keys, register))
            for name, register in registrations.items()
        }
        port = free_port()
        config = platform.config("bot", BotConfig, port=port, addresses=addresses)
        member = await enter(Member(config))
        await enter(app(member, config))
        stack.push_async_callback(member.finish)
        edge = BotServiceStub(await enter(dialling(platform.identity, "edge", "bot", f"127.0.0.1:{port}")))
        yield Bot(knowledge=knowledge, sessions=sessions, chat=chat, bus=bus, keys=keys, edge=edge)
