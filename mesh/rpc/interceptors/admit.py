"""Interceptors that admit a call: the service by its certificate, the person by a token, by the contract's rules."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from grpc_interceptor.server import AsyncServerInterceptor
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2

from mesh.errors import Refused
from mesh.identity import names
from mesh.rpc import metadata
from mesh.rpc.call import Behaviour, Context, current_call
from mesh.rpc.policy import Method
from mesh.rpc.principal import Principal, current_principal
from mesh.rpc.tokens import TokenVerifier

_TENANT: Final = re.compile(r"[a-z0-9-]{1,32}")

# Only Envoy knows the addresses of clients.
_EDGE: Final = "edge"

# Acts on the platform as a whole, so it may leave the tenant out. Row-level security then hides all shops' data.
_PLATFORM: Final = "operator"


class Caller(AsyncServerInterceptor):
    """Let in the services that the method's allowlist names."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Raise CALLER_NOT_ALLOWED for other services, and for certificates without a name of the mesh."""
        call = current_call.get()
        for identity in context.auth_context().get("peer_spiffe_id", ()):
            call.caller = names.name_of(identity.decode("utf-8", "replace")) or ""
        if call.caller not in call.method.callers:
            who = call.caller or "a certificate without a mesh name"
            raise Refused(errors_pb2.REASON_CALLER_NOT_ALLOWED, f"{who} may not call {call.method.path[1:]}")
        return await method(request_or_iterator, context)


class Token(AsyncServerInterceptor):
    """Set `principal.current()`: a person with a token, or a service acting for itself."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Raise TOKEN_MISSING, or the verifier's refusal of the token.

        A stream whose token is revoked while it is open ends a second later with TOKEN_REVOKED or DISABLED, unless its
        handler has ended it before.
        """
        call = current_call.get()
        if call.method.needs_principal:
            call.principal = principal_of(call.method, call.metadata, call.caller, self._verifier)
        elif not call.method.open:
            # A token that is sent all the same, such as an expired one at refresh, is ignored.
            call.principal = Principal(
                "",
                0,
                frozenset({options_pb2.ROLE_ANYONE}),
                caller=call.caller,
                address=address_of(call.metadata, call.caller),
            )
        if call.principal is None:
            return await method(request_or_iterator, context)
        current_principal.set(call.principal)
        if call.unary or not call.principal.user_id:
            return await method(request_or_iterator, context)
        revocations = self._verifier.revocations
        person = (call.principal.tenant_id, call.principal.user_id, call.principal.generation)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                with revocations.holding(*person, limit):
                    return await method(request_or_iterator, context)
        except TimeoutError:
            if limit.expired():
                revocations.check(*person)
            raise


class Roles(AsyncServerInterceptor):
    """Let in the roles and scopes that the contract names."""

    async def intercept(self, method: Behaviour, request_or_iterator: Any, context: Context, method_name: str) -> Any:
        """Raise ROLE_NOT_ALLOWED."""
        call = current_call.get()
        if call.method.needs_principal:
            check_roles(call.method, call.principal)
        return await method(request_or_iterator, context)


def check_roles(method: Method, principal: Principal | None) -> None:
    """Let in the roles and scopes that the contract names.

    Raises:
        Refused: ROLE_NOT_ALLOWED.

    """
    if principal is None or not _allowed(method, principal):
        raise Refused(errors_pb2.REASON_ROLE_NOT_ALLOWED, f"your roles or scopes do not allow {method.path[1:]}")


def _allowed(method: Method, principal: Principal) -> bool:
    fitting = principal.roles & method.roles
    if not fitting:
        return False
    # A partner needs one of the method's scopes besides the role.
    return fitting != {options_pb2.ROLE_PARTNER} or not principal.scopes.isdisjoint(method.scopes)


def principal_of(method: Method, sent: Mapping[str, str], caller: str, verifier: TokenVerifier) -> Principal:
    """Return for whom a call is made, from its metadata.

    Raises:
        Refused: TOKEN_MISSING, the verifier's refusal of a token, or INVALID_ARGUMENT for a malformed tenant.

    """
    header = sent.get(metadata.AUTHORIZATION)
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(errors_pb2.REASON_TOKEN_INVALID, "the authorization header must be: Bearer <access token>")
        claims = verifier.verify(token)
        return Principal(
            tenant_id=claims.tenant_id,
            user_id=claims.user_id,
            roles=claims.roles,
            scopes=claims.scopes,
            display_name=claims.display_name,
            caller=caller,
            expires_at=claims.expires_at,
            generation=claims.generation,
            address=address_of(sent, caller),
            token=token,
        )
    tenant = sent.get(metadata.TENANT)
    # A member that forwards other people's calls never acts for itself, whatever metadata a client sends.
    itself = caller in names.acting() and options_pb2.ROLE_SERVICE in method.roles
    if itself and (tenant or caller == _PLATFORM):
        if tenant and not _TENANT.fullmatch(tenant):
            raise Refused(errors_pb2.REASON_INVALID_ARGUMENT, "octopus-tenant is not the id of a shop")
        return Principal(tenant or "", 0, frozenset({options_pb2.ROLE_SERVICE}), caller=caller)
    raise Refused(errors_pb2.REASON_TOKEN_MISSING, "the call needs an access token in the authorization header")


def address_of(sent: Mapping[str, str], caller: str) -> str:
    """Return the client's address as Envoy sent it, empty for other callers."""
    return sent.get(metadata.CLIENT_ADDRESS, "") if caller == _EDGE else ""
