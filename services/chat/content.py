"""The content of messages: who may post which kind, and the fallback text for clients without the kind."""

from __future__ import annotations

from typing import Final

from octopus.chat.v1 import message_pb2
from octopus.options.v1 import options_pb2

from mesh.rpc.principal import Principal
from services.chat.domain import NotForYou

# The roles that may post each kind, as the contract states them beside the kind.
_POSTED_BY: Final[dict[str, frozenset[int]]] = {
    kind.name: frozenset(kind.GetOptions().Extensions[options_pb2.posting].roles)
    for kind in message_pb2.Content.DESCRIPTOR.oneofs_by_name["kind"].fields
}


def check_may_post(principal: Principal, content: message_pb2.Content) -> None:
    """Check that a caller may post a kind of content.

    Raises:
        NotForYou: the contract does not name any of the caller's roles beside the kind.

    """
    kind = content.WhichOneof("kind") or ""
    if principal.roles.isdisjoint(_POSTED_BY.get(kind, frozenset())):
        raise NotForYou(f"you may not post the kind {kind!r}; send a text")


def with_fallback(content: message_pb2.Content) -> message_pb2.Content:
    """Return the content as it goes into the log: with the fallback of its kind, whatever the client sent there."""
    kept = message_pb2.Content()
    kept.CopyFrom(content)
    match content.WhichOneof("kind"):
        case "answer":
            kept.fallback_text = content.answer.text
        case _:
            kept.ClearField("fallback_text")
    return kept
