"""The content of messages: who may post which kind, and the fallback text for clients without the kind."""

from __future__ import annotations

from typing import Final

from octopus.chat.v1 import message_pb2

from mesh.rpc.kinds import POSTED_BY
from mesh.rpc.principal import Principal
from services.chat.domain import NotForYou

# What somebody says; the other kinds tell of changes.
_SAID: Final = frozenset({"text", "answer", "note"})
# Bytes of UTF-8; from the contract.
_LONGEST_FALLBACK: Final = 8192


def check_may_post(principal: Principal, content: message_pb2.Content) -> None:
    """Check that a caller may post a kind of content.

    Raises:
        NotForYou: the contract does not name any of the caller's roles beside the kind.

    """
    kind = content.WhichOneof("kind") or ""
    if principal.roles.isdisjoint(POSTED_BY.get(kind, frozenset())):
        raise NotForYou(f"you may not post the kind {kind!r}; send a text")


def with_fallback(content: message_pb2.Content, locale: str) -> message_pb2.Content:
    """Return the content as it goes into the log: with the fallback of its kind, whatever the client sent there.

    `locale` is the session's; empty counts as Chinese.
    """
    kept = message_pb2.Content()
    kept.CopyFrom(content)
    chinese = locale == "" or locale.partition("-")[0].lower() == "zh"
    match content.WhichOneof("kind"):
        case "answer":
            kept.fallback_text = content.answer.text
        case "edit":
            kept.fallback_text = _clipped(f"{'更正：' if chinese else 'Correction: '}{content.edit.text.text}")
        case "recall":
            kept.fallback_text = "撤回了一条消息" if chinese else "A message was recalled"
        case "note":
            kept.fallback_text = _clipped(f"{'内部备注：' if chinese else 'Internal note: '}{content.note.text}")
        case _:
            kept.ClearField("fallback_text")
    return kept


def has_words(content: message_pb2.Content) -> bool:
    """Return whether a content is something that a person or the bot said."""
    return content.WhichOneof("kind") in _SAID


def _clipped(text: str) -> str:
    """Return a text within the bytes of a fallback."""
    return text.encode()[:_LONGEST_FALLBACK].decode(errors="ignore")
