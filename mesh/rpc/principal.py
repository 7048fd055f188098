"""Who is calling: the person or service a handler acts for."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from octopus.options.v1 import options_pb2


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified caller of the running call.

    `tenant_id` is the shop. `user_id` is 0 for a service that acts for itself, and `roles` are values of
    `octopus.options.v1.Role`. `caller` is the mesh name on the certificate of whoever is connected, e.g. "edge".
    `expires_at` is when the token ends, in seconds since the epoch. `generation` is the token's: a revocation has
    the lowest one that is still valid.
    """

    tenant_id: str
    user_id: int
    roles: frozenset[int]
    scopes: frozenset[str] = frozenset()
    display_name: str = field(default="", repr=False)
    caller: str = ""
    expires_at: float | None = None
    generation: int = 0
    # Where the client is, as Envoy saw it: an IP address. Empty for calls from inside the mesh. Not for logs.
    address: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def is_service(self) -> bool:
        """Return True when a service acts for itself, without a person's token."""
        return options_pb2.ROLE_SERVICE in self.roles

    def has(self, *roles: int) -> bool:
        """Return True when the caller has at least one of the roles."""
        return not self.roles.isdisjoint(roles)


current_principal: ContextVar[Principal] = ContextVar("octopus_principal")


def current() -> Principal:
    """Return the caller of the running call. Raise `LookupError` outside of a call."""
    return current_principal.get()
