"""Metadata that says for whom an outgoing call is made; always passed at the call site.

```
await session.GetSession(request, metadata=metadata.on_behalf(principal.current()))
await chat.Send(request, metadata=metadata.as_service("qingshan", affinity=customer_id))
```
"""

from __future__ import annotations

from typing import Final, TypeAlias

from mesh.rpc.principal import Principal

AUTHORIZATION: Final = "authorization"
TENANT: Final = "octopus-tenant"
# The control plane's hash policy reads it: calls about one user reach one instance.
USER: Final = "octopus-user"
# The client's address as seen by Envoy; accepted from Envoy only.
CLIENT_ADDRESS: Final = "octopus-client-address"
# In the initial metadata of an answer: which instance answers.
INSTANCE: Final = "octopus-instance"
# In the initial metadata of an answer: the call has passed the interceptors, and its stream is read.
ACCEPTED: Final = "octopus-accepted"

Metadata: TypeAlias = tuple[tuple[str, str], ...]


def on_behalf(principal: Principal) -> Metadata:
    """Return the metadata of a call for the caller of the running call: same token or tenant, same user."""
    if principal.is_service:
        return as_service(principal.tenant_id)
    return with_token(principal.token, affinity=principal.user_id)


def as_service(tenant_id: str, *, affinity: int | None = None) -> Metadata:
    """Return the metadata of a call by which a service acts for itself within one shop.

    `affinity` is the user whose instance should be reached.
    """
    return ((TENANT, tenant_id), *_affinity(affinity))


def with_token(token: str, *, affinity: int | None = None) -> Metadata:
    """Return the metadata of a call that carries an access token."""
    return ((AUTHORIZATION, f"Bearer {token}"), *_affinity(affinity))


def _affinity(user_id: int | None) -> Metadata:
    return ((USER, str(user_id)),) if user_id else ()
