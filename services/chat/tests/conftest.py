"""Two chat instances on real NATS and Valkey, and a session service whose answers a test sets."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from octopus.chat.v1 import (
    chat_events_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    frame_pb2,
    message_pb2,
    relay_service_pb2_grpc,
)
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_events_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc

from mesh.bus import Bus, connect
from mesh.bus.streams import LOG, window_of
from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.process.periodic import periodic
from mesh.rpc.admission import Admission
from mesh.rpc.channel import connect as dial
from mesh.rpc.metadata import as_service, with_token
from mesh.rpc.principal import current
from mesh.rpc.revocations import Revocations
from mesh.stores.valkey import connect as valkey_connect
from mesh.testing import Platform
from mesh.testing.rpc import Keys, dialling, serving
from services.chat.config import ChatConfig
from services.chat.conversation import Conversation
from services.chat.earlier import EarlierMessages
from services.chat.first_posts import FirstPosts
from services.chat.log_extent import LogExtent
from services.chat.posting import Posting
from services.chat.registry import ConnectionRegistry
from services.chat.relay_servicer import RelayServicer
from services.chat.rooms import SWEEP_S
from services.chat.screening.lists import WordLists
from services.chat.screening.screen import Screen, hear_changes
from services.chat.servicer import ChatServicer
from services.chat.sessions import SessionClient
from services.chat.store import Receipts
from services.chat.streams import Streams
from services.chat.tests.known_words import KnownWords

TENANT = "chat-tests"
_session_ids = itertools.count(int(time.time() * 1000))
Converse = grpc.aio.StreamStreamCall[chat_service_pb2.ConverseRequest, chat_service_pb2.ConverseResponse]


class KnownSessions(session_service_pb2_grpc.SessionServiceServicer):
    """The session service as far as chat asks it; keeps the sessions that a test opens."""

    def __init__(self, bus: Bus) -> None:
        self.sessions: dict[int, session_pb2.Session] = {}
        # Who may see every session without taking part, as colleagues and supervisors do.
        self.onlookers: set[int] = set()
        # How often open sessions were asked for; cleared, no answer comes until it is set again.
        self.asked = 0
        self.answering = asyncio.Event()
        self.answering.set()
        # Its database is unreachable, and it says so.
        self.away = False
        self._bus = bus

    async def _answer(self) -> None:
        await self.answering.wait()
        if self.away:
            raise Refused(errors_pb2.REASON_UNAVAILABLE, "PostgreSQL is not there")

    def open(self, customer_id: int, agent_id: int = 0, state: str = "BOT") -> session_pb2.Session:
        """Open a session."""
        session = session_pb2.Session(
            id=next(_session_ids),
            tenant_id=TENANT,
            customer_id=customer_id,
            agent_id=agent_id,
            state=session_pb2.SessionState.Value(f"SESSION_STATE_{state}"),
            version=1,
        )
        session.opened_at.GetCurrentTime()
        self.sessions[session.id] = session
        return session

    async def change(self, session: session_pb2.Session, state: str, *, agent_id: int | None = None) -> None:
        """Change a session and tell as the session service does: in the log, and to each person concerned."""
        before = {session.customer_id, session.agent_id}
        session.state = session_pb2.SessionState.Value(f"SESSION_STATE_{state}")
        session.version += 1
        if agent_id is not None:
            session.agent_id = agent_id
        message = message_pb2.Message(
            id=next(_session_ids),
            session_id=session.id,
            sender=message_pb2.Sender(kind=message_pb2.SENDER_KIND_SYSTEM),
            content=message_pb2.Content(change=message_pb2.SessionChange(session=session)),
        )
        entry = chat_events_pb2.LogEntry(message=message, tenant_id=TENANT, customer_id=session.customer_id)
        await self._bus.publish(f"log.{TENANT}.{session.id}", entry, message_id=str(message.id))
        for user_id in (before | {session.agent_id}) - {0}:
            notice = session_events_pb2.SessionNotice(session=session)
            await self._bus.publish(
                f"notice.{TENANT}.{user_id}", notice, message_id=f"{session.id}-{session.version}-{user_id}"
            )

    async def ListOpenSessions(
        self, request: session_service_pb2.ListOpenSessionsRequest, context: Any
    ) -> session_service_pb2.ListOpenSessionsResponse:
        """Return the caller's open sessions."""
        self.asked += 1
        await self._answer()
        user_id = current().user_id
        return session_service_pb2.ListOpenSessionsResponse(
            sessions=[
                session
                for session in self.sessions.values()
                if user_id in (session.customer_id, session.agent_id)
                and session.state != session_pb2.SESSION_STATE_ENDED
            ]
        )

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        """Return a session the caller may see."""
        await self._answer()
        session = self.sessions.get(request.session_id)
        caller = current()
        if session is None or not (
            caller.is_service or caller.user_id in {session.customer_id, session.agent_id, *self.onlookers}
        ):
            raise Refused(errors_pb2.REASON_NOT_FOUND, "no such session")
        return session_service_pb2.GetSessionResponse(session=session)


class KnownHistory:
    """The archive as far as chat asks it; has what a test puts into it."""

    def __init__(self) -> None:
        self.messages: list[message_pb2.Message] = []
        self.asked = 0

    async def find(
        self, tenant_id: str, session_id: int, sender_kind: message_pb2.SenderKind.ValueType, client_message_id: str
    ) -> message_pb2.Message | None:
        """Return the message that an author's side knows by an id."""
        self.asked += 1
        wanted = (session_id, sender_kind, client_message_id)
        return next((m for m in self.messages if (m.session_id, m.sender.kind, m.client_message_id) == wanted), None)

    async def at(self, tenant_id: str, session_id: int, seq: int) -> message_pb2.Message | None:
        """Return the message at a position of a session."""
        self.asked += 1
        return next((m for m in self.messages if (m.session_id, m.seq) == (session_id, seq)), None)


class Ids:
    """Ids for one test process."""

    def next(self) -> int:
        """Return a new id."""
        return next(_session_ids)


@dataclass
class Stream:
    """One open `Converse` stream, and what it has brought."""

    call: Converse
    frames: list[frame_pb2.ServerFrame] = field(default_factory=list)
    error: grpc.aio.AioRpcError | None = None
    ended: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, **frame: Any) -> None:
        """Send a frame, e.g. `post=PostMessage(...)`."""
        await self.call.write(chat_service_pb2.ConverseRequest(frames=[frame_pb2.ClientFrame(**frame)]))

    async def read(self) -> None:
        """Collect frames until the stream ends."""
        try:
            async for response in self.call:
                self.frames.extend(response.frames)
                self._news.set()
        except grpc.aio.AioRpcError as error:
            self.error = error
        finally:
            self.ended = True
            self._news.set()

    async def next(self, kind: str, count: int = 1, *, timeout: float = 30) -> list[Any]:
        """Wait for so many frames of a kind, and return their contents."""
        async with asyncio.timeout(timeout):
            while len(found := [getattr(f, kind) for f in self.frames if f.WhichOneof("frame") == kind]) < count:
                self._news.clear()
                await self._news.wait()
        return found

    async def answered(self, count: int, *, timeout: float = 40) -> None:
        """Wait until so many messages were acknowledged or refused."""
        async with asyncio.timeout(timeout):
            while sum(frame.HasField("ack") or frame.HasField("refusal") for frame in self.frames) < count:
                self._news.clear()
                await self._news.wait()

    async def end(self, *, timeout: float = 20) -> grpc.aio.AioRpcError | None:
        """Wait for the end of the stream and return its error."""
        async with asyncio.timeout(timeout):
            while not self.ended:
                self._news.clear()
                await self._news.wait()
        return self.error


@dataclass
class Chat:
    """Running chat instances and those who talk to them."""

    platform: Platform
    keys: Keys
    sessions: KnownSessions
    addresses: list[str]
    streams: list[Streams]
    relays: list[RelayServicer]
    registries: list[ConnectionRegistry]
    revocations: Revocations
    history: KnownHistory
    first_posts: list[FirstPosts]
    words: KnownWords
    bus: Bus
    stack: AsyncExitStack

    def token(self, user_id: int, role: str = "CUSTOMER", **claims: Any) -> str:
        """Return a token of somebody."""
        return self.keys.token(TENANT, user_id, role, name=f"user {user_id}", **claims)

    async def stub(self, instance: int = 0, caller: str = "edge") -> chat_service_pb2_grpc.ChatServiceStub:
        """Return a stub for one instance."""
        channel = await self.stack.enter_async_context(
            dialling(self.platform.identity, caller, "chat", self.addresses[instance])
        )
        return chat_service_pb2_grpc.ChatServiceStub(channel)

    async def converse(
        self,
        user_id: int,
        role: str = "CUSTOMER",
        *,
        instance: int = 0,
        cursors: dict[int, int] | None = None,
        read: bool = True,
        **claims: Any,
    ) -> Stream:
        """Open a stream and say hello."""
        stub = await self.stub(instance)
        call = stub.Converse(metadata=with_token(self.token(user_id, role, **claims)))
        stream = Stream(call)
        hello = frame_pb2.Hello(
            cursors=[frame_pb2.Cursor(session_id=session, seq=seq) for session, seq in (cursors or {}).items()]
        )
        await stream.send(hello=hello)
        if read:
            task = asyncio.create_task(stream.read())
            self.stack.callback(task.cancel)
            await stream.next("welcome")
        return stream

    def as_bot(self) -> Any:
        """Return what the bot's calls carry."""
        return as_service(TENANT)


@asynccontextmanager
async def running(platform: Platform, instances: int = 1, **settings: Any) -> AsyncIterator[Chat]:
    """Run chat instances."""
    keys, revocations = Keys(), Revocations()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(
            connect(platform.nats_url, "session", tls=Identity(platform.identity, "session").client_context)
        )
        history = KnownHistory()
        words = KnownWords()
        sessions = KnownSessions(bus)  # type: ignore[abstract]  # answers what chat asks, and UNIMPLEMENTED otherwise
        session_address = await stack.enter_async_context(
            serving(
                platform.identity,
                "session",
                keys,
                lambda server: session_service_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server),
            )
        )
        config = platform.config("chat", ChatConfig, **settings)
        assert config.valkey_password_file is not None
        addresses: list[str] = []
        running_streams: list[Streams] = []
        relays: list[RelayServicer] = []
        registries: list[ConnectionRegistry] = []
        first_posts: list[FirstPosts] = []
        for _ in range(instances):
            chat_bus = await stack.enter_async_context(
                connect(platform.nats_url, "chat", tls=Identity(platform.identity, "chat").client_context)
            )
            valkey = await stack.enter_async_context(
                valkey_connect(platform.valkey_url, user="chat", password_file=config.valkey_password_file)
            )
            channel = dial("session", Identity(platform.identity, "chat"), address=session_address)
            stack.push_async_callback(channel.close)
            extent = LogExtent(chat_bus)
            first_posts.append(FirstPosts(chat_bus, extent, history, window=window_of(LOG)))
            registry = ConnectionRegistry(
                chat_bus,
                SessionClient(channel),
                extent,
                replay_page=config.replay_page,
                resume_limit=config.resume_messages,
                tail_memory_bytes=config.resume_memory_bytes,
            )
            chat_bus.on_reconnect(registry.repair)
            word_lists = WordLists(words)
            stack.push_async_callback(word_lists.close)
            await hear_changes(chat_bus, word_lists)
            conversation = Conversation(
                registry,
                Posting(
                    chat_bus,
                    Ids(),
                    first_posts[-1],
                    EarlierMessages(chat_bus, history),
                    Screen(word_lists, chat_bus, Ids(), timeout=config.publish_timeout_s),
                    timeout=config.publish_timeout_s,
                ),
                Receipts(valkey),
                chat_bus,
                burst=config.rate_burst,
                per_second=config.rate_per_second,
            )
            streams = Streams(config, registry, conversation, revocations)
            revocations.listen(streams.log_out)
            servicer = ChatServicer(streams, conversation)
            verifier = keys.verifier(revocations)
            admission = Admission("/octopus.chat.v1.ChatService/Converse", verifier, caller="bridge")
            relay = RelayServicer(streams, admission, f"chat-{len(addresses) + 1}")
            for work in (streams.watch(), periodic("close idle rooms", registry.rooms.sweep, every=SWEEP_S)):
                stack.callback(asyncio.create_task(work).cancel)
            addresses.append(
                await stack.enter_async_context(
                    serving(
                        platform.identity,
                        "chat",
                        keys,
                        functools.partial(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, servicer),
                        functools.partial(relay_service_pb2_grpc.add_RelayServiceServicer_to_server, relay),
                        revocations=revocations,
                    )
                )
            )
            running_streams.append(streams)
            relays.append(relay)
            registries.append(registry)
        yield Chat(
            platform,
            keys,
            sessions,
            addresses,
            running_streams,
            relays,
            registries,
            revocations,
            history,
            first_posts,
            words,
            bus,
            stack,
        )


@pytest.fixture
async def chat(platform: Platform) -> AsyncIterator[Chat]:
    """One chat instance."""
    async with running(platform) as chat:
        yield chat


@pytest.fixture
async def chats(platform: Platform) -> AsyncIterator[Chat]:
    """Two chat instances."""
    async with running(platform, instances=2) as chat:
        yield chat


def text(session_id: int, words: str, client_message_id: str = "") -> frame_pb2.PostMessage:
    """Return a text to post."""
    return frame_pb2.PostMessage(
        session_id=session_id,
        client_message_id=client_message_id or f"message-{next(_session_ids)}",
        content=message_pb2.Content(text=message_pb2.Text(text=words)),
    )
