"""Users and page tokens as the contract shows them."""

from __future__ import annotations

import base64
import binascii

from octopus.options.v1 import options_pb2
from octopus.user.v1 import user_pb2 as pb

from services.user import domain


def user(known: domain.User, *, unmasked: bool = False) -> pb.User:
    """Return the message; the telephone number is masked unless the reader is the user."""
    message = pb.User(
        id=known.id,
        tenant_id=known.tenant_id,
        kind=pb.UserKind.ValueType(known.kind),
        roles=[options_pb2.Role.ValueType(role) for role in known.roles],
        display_name=known.display_name,
        external_id=known.external_id,
        phone=known.phone if unmasked else domain.masked_phone(known.phone),
        tags=known.tags,
        disabled=known.disabled,
        merged_into=known.merged_into,
        locale=known.locale,
        capacity=known.capacity,
    )
    message.created_at.FromDatetime(known.created_at)
    return message


def page_token(after_id: int) -> str:
    """Return the opaque token of the page that follows this user."""
    return base64.urlsafe_b64encode(after_id.to_bytes(8)).rstrip(b"=").decode()


def position(token: str) -> int:
    """Return the id of the user after which a page starts; 0 for the first page. Raise `Invalid` for other text."""
    if not token:
        return 0
    try:
        raw = base64.b64decode(token + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 8 or raw[0] > 0x7F:
        raise domain.Invalid("page_token", "this is not a page token of ListUsers; start without one")
    return int.from_bytes(raw)
