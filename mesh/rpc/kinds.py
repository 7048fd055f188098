"""What the contract says about the kinds of a message's content."""

from __future__ import annotations

from typing import Final

from octopus.chat.v1 import message_pb2
from octopus.options.v1 import options_pb2

_KINDS: Final = message_pb2.Content.DESCRIPTOR.oneofs_by_name["kind"].fields

POSTED_BY: Final[dict[str, frozenset[int]]] = {
    kind.name: frozenset(kind.GetOptions().Extensions[options_pb2.posting].roles) for kind in _KINDS
}
"""The roles that may post each kind."""

_INTERNAL: Final = frozenset(kind.name for kind in _KINDS if kind.GetOptions().Extensions[options_pb2.posting].internal)

STAFF: Final = (options_pb2.ROLE_AGENT, options_pb2.ROLE_SUPERVISOR, options_pb2.ROLE_ADMIN)
"""The roles that are shown internal kinds."""


def is_internal(content: message_pb2.Content) -> bool:
    """Return whether a content is for the shop's staff alone."""
    return content.WhichOneof("kind") in _INTERNAL
