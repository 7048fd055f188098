"""Users as the contract shows them."""

from __future__ import annotations

from octopus.options.v1 import options_pb2
from octopus.user.v1 import user_pb2 as pb

from mesh.rpc.timestamps import to_wire
from services.user import domain


def user(known: domain.User, *, unmasked: bool = False) -> pb.User:
    """Return the message; the telephone number is masked unless the reader is the user."""
    return pb.User(
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
        created_at=to_wire(known.created_at),
    )
