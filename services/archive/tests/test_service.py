"""Who may read which history, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from typing import Any

import pytest
from octopus.archive.v1 import archive_service_pb2 as pb
from octopus.archive.v1 import archive_service_pb2_grpc
from octopus.chat.v1 import chat_events_pb2, message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from mesh.bus import Delivery
from mesh.errors import Refused
from mesh.rpc.metadata import as_service, with_token
from mesh.rpc.principal import current
from mesh.stores.postgres import Database
from mesh.testing import Platform
from mesh.testing.rpc import Keys, dialling, serving
from services.archive.events import Archivist
from services.archive.servicer import ArchiveServicer
from services.archive.store import ArchiveStore
from services.archive.tests.conftest import entry, new_id, new_tenant

pytestmark = pytest.mark.service

CUSTOMER, STRANGER, AGENT, PARTNER = 7, 8, 100, 200


class KnownSessions(session_service_pb2_grpc.SessionServiceServicer):
    """The session service as far as the archive asks it: who sees which session is what a test says."""

    def __init__(self, tenant_id: str) -> None:
        self._tenant_id = tenant_id
        # By session: the users who may see it. Services see all of the shop.
        self.visible: dict[int, set[int]] = {}

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        caller = current()
        seen_by = self.visible.get(request.session_id, set())
        known = caller.tenant_id == self._tenant_id and request.session_id in self.visible
        if not known or not (caller.is_service or caller.user_id in seen_by):
            raise Refused(errors_pb2.REASON_NOT_FOUND, "there is no such session")
        return session_service_pb2.GetSessionResponse(session=session_pb2.Session(id=request.session_id))


@dataclass
class History:
    """A shop with one archived session and one of which nothing is archived, and who may read."""

    stub: archive_service_pb2_grpc.ArchiveServiceStub
    sessions: KnownSessions
    keys: Keys
    tenant_id: str
    session_id: int
    empty_session_id: int
    texts: list[str] = field(default_factory=list)
    # As chat, which acts for itself.
    by_chat: archive_service_pb2_grpc.ArchiveServiceStub | None = None
    said: list[chat_events_pb2.LogEntry] = field(default_factory=list)
    archivist: Archivist | None = None

    async def find(
        self, client_message_id: str, side: message_pb2.SenderKind.ValueType, **request: Any
    ) -> pb.FindMessageResponse:
        assert self.by_chat is not None
        tenant_id = request.pop("tenant_id", self.tenant_id)
        asked = pb.FindMessageRequest(
            **{"session_id": self.session_id, "client_message_id": client_message_id, "sender_kind": side, **request}
        )
        return await self.by_chat.FindMessage(asked, metadata=as_service(tenant_id))

    async def read(
        self, user_id: int, *roles: str, tenant_id: str = "", scope: str = "", **request: Any
    ) -> pb.ListMessagesResponse:
        token = self.keys.token(tenant_id or self.tenant_id, user_id, *roles, scope=scope)
        asked = pb.ListMessagesRequest(**{"session_id": self.session_id, **request})
        return await self.stub.ListMessages(asked, metadata=with_token(token))

    async def add(self, seq: int, content: message_pb2.Content) -> None:
        """Archive one more message of the session."""
        assert self.archivist is not None
        said = entry(self.tenant_id, self.session_id, "-", customer_id=CUSTOMER)
        said.message.content.CopyFrom(content)
        subject, at = f"log.{self.tenant_id}.{self.session_id}", said.message.sent_at.ToDatetime(tzinfo=UTC)
        await self.archivist.keep([Delivery(said, seq, subject, {}, 1, at)])

    async def versions(self, user_id: int, *roles: str, seq: int) -> pb.ListVersionsResponse:
        metadata = with_token(self.keys.token(self.tenant_id, user_id, *roles))
        return await self.stub.ListVersions(
            pb.ListVersionsRequest(session_id=self.session_id, seq=seq), metadata=metadata
        )

    async def get(self, seq: int) -> pb.GetMessageResponse:
        assert self.by_chat is not None
        request = pb.GetMessageRequest(session_id=self.session_id, seq=seq)
        return await self.by_chat.GetMessage(request, metadata=as_service(self.tenant_id))

    async def customer(self, **request: Any) -> pb.ListMessagesResponse:
        return await self.read(CUSTOMER, "CUSTOMER", **request)


@pytest.fixture
async def history(migrated: Platform, db: Database, store: ArchiveStore) -> AsyncIterator[History]:
    keys, tenant_id, session_id, empty = Keys(), new_tenant(), new_id(), new_id()
    archivist = Archivist(db=db, store=store)
    texts = [f"第 {number} 句" for number in range(1, 6)]
    said = [entry(tenant_id, session_id, text, customer_id=CUSTOMER) for text in texts]
    subject = f"log.{tenant_id}.{session_id}"
    await archivist.keep(
        [
            Delivery(each, 10 * number, subject, {}, 1, each.message.sent_at.ToDatetime(tzinfo=UTC))
            for number, each in enumerate(said, 1)
        ]
    )
    known = KnownSessions(tenant_id)  # type: ignore[abstract]  # answers what the archive asks
    known.visible = {session_id: {CUSTOMER, AGENT}, empty: {CUSTOMER, AGENT}}
    sessions = partial(session_service_pb2_grpc.add_SessionServiceServicer_to_server, known)
    async with (
        serving(migrated.identity, "session", keys, sessions) as session_address,
        dialling(migrated.identity, "archive", "session", session_address) as to_session,
    ):
        servicer = ArchiveServicer(db=db, store=store, sessions=session_service_pb2_grpc.SessionServiceStub(to_session))
        add = partial(archive_service_pb2_grpc.add_ArchiveServiceServicer_to_server, servicer)
        async with (
            serving(migrated.identity, "archive", keys, add) as address,
            dialling(migrated.identity, "edge", "archive", address) as channel,
            dialling(migrated.identity, "chat", "archive", address) as from_chat,
        ):
            stub = archive_service_pb2_grpc.ArchiveServiceStub(channel)
            by_chat = archive_service_pb2_grpc.ArchiveServiceStub(from_chat)
            yield History(stub, known, keys, tenant_id, session_id, empty, texts, by_chat, said, archivist)


def recall(seq: int) -> message_pb2.Content:
    return message_pb2.Content(fallback_text="撤回了一条消息", recall=message_pb2.Recall(target_seq=seq))


def edit(seq: int, words: str) -> message_pb2.Content:
    return message_pb2.Content(
        fallback_text=f"更正：{words}", edit=message_pb2.Edit(target_seq=seq, text=message_pb2.Text(text=words))
    )


async def reason(call: Awaitable[object]) -> int:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_chat_finds_a_message_by_its_authors_id(history: History) -> None:
    said = history.said[2].message
    found = (await history.find(said.client_message_id, message_pb2.SENDER_KIND_CUSTOMER)).message
    assert (found.id, found.seq, found.sent_at) == (said.id, 30, said.sent_at)
    assert (found.client_message_id, found.content) == (said.client_message_id, said.content)
    for elsewhere in (
        history.find(said.client_message_id, message_pb2.SENDER_KIND_AGENT),
        history.find("never-said", message_pb2.SENDER_KIND_CUSTOMER),
        history.find(said.client_message_id, message_pb2.SENDER_KIND_CUSTOMER, session_id=history.empty_session_id),
        history.find(said.client_message_id, message_pb2.SENDER_KIND_CUSTOMER, tenant_id=new_tenant()),
    ):
        assert not (await elsewhere).HasField("message")


async def test_nobody_but_chat_finds_messages_by_their_authors_id(history: History) -> None:
    request = pb.FindMessageRequest(
        session_id=history.session_id, client_message_id="client-123", sender_kind=message_pb2.SENDER_KIND_CUSTOMER
    )
    for metadata in (as_service(history.tenant_id), with_token(history.keys.token(history.tenant_id, AGENT, "AGENT"))):
        assert (
            await reason(history.stub.FindMessage(request, metadata=metadata)) == errors_pb2.REASON_CALLER_NOT_ALLOWED
        )


async def test_a_customer_reads_the_own_session_newest_first(history: History) -> None:
    page = await history.customer()
    assert [message.content.text.text for message in page.messages] == history.texts[::-1]
    assert [message.seq for message in page.messages] == [50, 40, 30, 20, 10]
    assert {message.sender.display_name for message in page.messages} == {"王小明"}
    assert page.next_page_token == ""


async def test_pages_hold_every_message_once(history: History) -> None:
    seen: list[int] = []
    token = ""
    while True:
        page = await history.customer(page_size=2, page_token=token)
        seen += [message.seq for message in page.messages]
        token = page.next_page_token
        if not token:
            break
    assert seen == [50, 40, 30, 20, 10]


async def test_history_can_begin_before_a_position(history: History) -> None:
    page = await history.customer(before_seq=30, page_size=1)
    rest = await history.customer(before_seq=30, page_size=1, page_token=page.next_page_token)
    assert [message.seq for message in (*page.messages, *rest.messages)] == [20, 10]
    assert list((await history.customer(before_seq=10)).messages) == []


@pytest.mark.parametrize("role", ["VISITOR", "CUSTOMER", "AGENT", "SUPERVISOR", "ADMIN"])
async def test_whoever_may_not_see_the_session_reads_nothing_of_it(history: History, role: str) -> None:
    """The session service says who may, whatever the role and however much is archived."""
    assert await reason(history.read(STRANGER, role)) == errors_pb2.REASON_NOT_FOUND
    history.sessions.visible[history.session_id].add(STRANGER)
    assert len((await history.read(STRANGER, role)).messages) == 5
    # Seen once, it is asked again: an agent loses a session.
    history.sessions.visible[history.session_id].discard(STRANGER)
    assert await reason(history.read(STRANGER, role)) == errors_pb2.REASON_NOT_FOUND


async def test_another_shops_session_is_not_found_not_even_for_staff(history: History) -> None:
    other = new_tenant()
    for user_id, role in ((CUSTOMER, "CUSTOMER"), (AGENT, "AGENT"), (AGENT, "SUPERVISOR")):
        assert await reason(history.read(user_id, role, tenant_id=other)) == errors_pb2.REASON_NOT_FOUND


async def test_a_partner_needs_the_scope(history: History) -> None:
    assert len((await history.read(PARTNER, "PARTNER", scope="chat.read")).messages) == 5
    refused = await reason(history.read(PARTNER, "PARTNER", scope="faq.read"))
    assert refused == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_a_new_session_is_empty_for_those_it_belongs_to_and_unknown_to_others(history: History) -> None:
    new = history.empty_session_id
    for user_id, role, scope in ((CUSTOMER, "CUSTOMER", ""), (AGENT, "AGENT", ""), (PARTNER, "PARTNER", "chat.read")):
        page = await history.read(user_id, role, scope=scope, session_id=new)
        assert (list(page.messages), page.next_page_token) == ([], "")
    for user_id, role, tenant_id in ((STRANGER, "CUSTOMER", ""), (CUSTOMER, "CUSTOMER", new_tenant())):
        refused = await reason(history.read(user_id, role, tenant_id=tenant_id, session_id=new))
        assert refused == errors_pb2.REASON_NOT_FOUND
    assert await reason(history.customer(session_id=new_id())) == errors_pb2.REASON_NOT_FOUND


async def test_edits_and_recalls_show_in_the_history_whichever_page_they_are_on(history: History) -> None:
    await history.add(60, recall(20))
    await history.add(70, edit(40, "第四句，更正"))
    await history.add(80, edit(40, "第四句，再更正"))
    seen: list[message_pb2.Message] = []
    token = ""
    while True:
        page = await history.customer(page_size=3, page_token=token)
        seen += page.messages
        token = page.next_page_token
        if not token:
            break
    by_seq = {message.seq: message for message in seen}
    assert list(by_seq) == [80, 70, 60, 50, 40, 30, 20, 10]
    assert by_seq[40].content.text.text == "第四句，再更正"
    assert by_seq[40].HasField("edited_at")
    assert by_seq[20].HasField("recalled_at")
    assert by_seq[20].content == message_pb2.Content(fallback_text="撤回了一条消息")
    assert by_seq[60].content.recall.target_seq == 20
    gone = (history.texts[1], history.texts[3], "第四句，更正")
    assert not [m for m in seen for words in gone if words.encode() in m.SerializeToString()]
    # Chat is not told the words either.
    found = await history.find(history.said[1].message.client_message_id, message_pb2.SENDER_KIND_CUSTOMER)
    assert (found.message.seq, found.message.content.text.text) == (20, "")
    assert (await history.get(20)).message.HasField("recalled_at")
    assert (await history.get(40)).message.content.text.text == "第四句，再更正"
    assert not (await history.get(45)).HasField("message")


async def test_supervisors_alone_read_what_a_message_said_before_its_edits(history: History) -> None:
    await history.add(60, edit(10, "第一句，更正"))
    await history.add(70, edit(20, "第二句，更正"))
    await history.add(80, recall(20))
    for role in ("SUPERVISOR", "ADMIN"):
        found = (await history.versions(AGENT, role, seq=10)).versions
        assert [version.content.text.text for version in found] == [history.texts[0], "第一句，更正"]
        assert [version.HasField("edited_at") for version in found] == [False, True]
        (gone,) = (await history.versions(AGENT, role, seq=20)).versions
        assert gone.HasField("recalled_at")
        assert not gone.content.HasField("text")
        for seq in (60, 999):
            assert await reason(history.versions(AGENT, role, seq=seq)) == errors_pb2.REASON_NOT_FOUND
        assert await reason(history.versions(STRANGER, role, seq=10)) == errors_pb2.REASON_NOT_FOUND
    for role in ("AGENT", "CUSTOMER"):
        assert await reason(history.versions(CUSTOMER, role, seq=10)) == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_notes_are_read_by_staff_and_neither_by_customers_nor_by_partners(history: History) -> None:
    secret = "不要告诉顾客"
    await history.add(60, message_pb2.Content(fallback_text=secret, note=message_pb2.Note(text=secret)))
    history.sessions.visible[history.session_id].update({STRANGER, PARTNER})
    for role in ("AGENT", "SUPERVISOR", "ADMIN"):
        assert (await history.read(AGENT, role)).messages[0].content.note.text == secret
    for user_id, role, scope in (
        (CUSTOMER, "CUSTOMER", ""),
        (CUSTOMER, "VISITOR", ""),
        (PARTNER, "PARTNER", "chat.read"),
    ):
        page = await history.read(user_id, role, scope=scope)
        assert [message.seq for message in page.messages] == [50, 40, 30, 20, 10]
        assert secret.encode() not in page.SerializeToString()
        # Pages are as full as without it: nothing tells that it is there.
        first = await history.read(user_id, role, scope=scope, page_size=5)
        assert (len(first.messages), first.next_page_token) == (5, "")


@pytest.mark.parametrize("token", ["1", "AAAAAAAAAAAA", "-----------", "é"])
async def test_a_made_up_page_token_is_refused(history: History, token: str) -> None:
    assert await reason(history.customer(page_token=token)) == errors_pb2.REASON_INVALID_ARGUMENT
