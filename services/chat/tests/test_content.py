"""Who may post which kind of content, and what a client sees that does not know a kind."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from octopus.chat.v1 import message_pb2
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2

from mesh.rpc.principal import Principal
from services.chat.content import check_may_post, with_fallback
from services.chat.domain import NotForYou
from services.chat.tests.conftest import Chat, text

pytestmark = pytest.mark.service

CUSTOMER = 10
KINDS = list(message_pb2.Content.DESCRIPTOR.oneofs_by_name["kind"].fields)
TEXT = message_pb2.Content(text=message_pb2.Text(text="您好"))
ANSWER = message_pb2.Content(answer=message_pb2.BotAnswer(text="24 小时内发出。"))
CHANGE = message_pb2.Content(change=message_pb2.SessionChange())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_every_kind_says_who_may_post_it(kind: object) -> None:
    assert kind.GetOptions().HasExtension(options_pb2.posting)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("role", "content", "allowed"),
    [
        (options_pb2.ROLE_VISITOR, TEXT, True),
        (options_pb2.ROLE_CUSTOMER, TEXT, True),
        (options_pb2.ROLE_AGENT, TEXT, True),
        (options_pb2.ROLE_SUPERVISOR, TEXT, True),
        (options_pb2.ROLE_SERVICE, TEXT, False),
        (options_pb2.ROLE_SERVICE, ANSWER, True),
        (options_pb2.ROLE_CUSTOMER, ANSWER, False),
        (options_pb2.ROLE_AGENT, ANSWER, False),
        (options_pb2.ROLE_CUSTOMER, CHANGE, False),
        (options_pb2.ROLE_AGENT, CHANGE, False),
        (options_pb2.ROLE_SERVICE, CHANGE, False),
    ],
)
def test_a_kind_is_posted_by_those_whom_its_contract_names(
    role: int, content: message_pb2.Content, allowed: bool
) -> None:
    principal = Principal("qingshan", 1, frozenset({role}))
    if allowed:
        check_may_post(principal, content)
    else:
        with pytest.raises(NotForYou):
            check_may_post(principal, content)


def test_the_server_alone_writes_the_fallback() -> None:
    forged = message_pb2.Content(fallback_text="what the client would like others to read", text=TEXT.text)
    assert with_fallback(forged, "") == TEXT
    assert with_fallback(ANSWER, "").fallback_text == "24 小时内发出。"


def test_a_client_that_does_not_know_a_kind_shows_the_fallback() -> None:
    sent = message_pb2.Message(id=7, session_id=5, content=with_fallback(ANSWER, ""))
    old = older_client_without("answer").FromString(sent.SerializeToString())
    assert old.content.WhichOneof("kind") is None  # type: ignore[attr-defined]
    assert old.content.fallback_text == "24 小时内发出。"  # type: ignore[attr-defined]
    assert message_pb2.Message.FromString(old.SerializeToString()) == sent, "what it does not know is passed on"


async def test_a_customer_cannot_pretend_that_the_session_changed(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    customer = await chat.converse(CUSTOMER)
    post = text(session.id, "-")
    post.content.change.session.id = session.id
    await customer.send(post=post)
    (refusal,) = await customer.next("refusal")
    assert refusal.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED


async def test_a_kind_that_the_server_does_not_know_is_refused(chat: Chat) -> None:
    session = chat.sessions.open(CUSTOMER)
    customer = await chat.converse(CUSTOMER)
    post = text(session.id, "-")
    # Field 100, a message.
    post.content.CopyFrom(message_pb2.Content.FromString(b"\xa2\x06\x02\x08\x01"))
    await customer.send(post=post)
    (refusal,) = await customer.next("refusal")
    assert refusal.reason == errors_pb2.REASON_INVALID_ARGUMENT


def older_client_without(kind: str) -> type[Message]:
    """Return `Message` as a client knows it whose contracts are from before the kind."""
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: descriptor_pb2.FileDescriptorProto) -> None:
        for name in file.dependency:
            if name not in added:
                add(described(name))
        added.add(file.name)
        pool.Add(file)

    def described(name: str) -> descriptor_pb2.FileDescriptorProto:
        file = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
        return file

    file = described("octopus/chat/v1/message.proto")
    (content,) = [each for each in file.message_type if each.name == "Content"]
    fields = [field for field in content.field if field.name != kind]
    assert len(fields) == len(content.field) - 1
    del content.field[:]
    content.field.extend(fields)
    add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("octopus.chat.v1.Message"))
