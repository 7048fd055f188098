"""Who may come in: the calling service by its certificate, the person by a token, both by the contract's rules."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2

from mesh.errors import Refused
from mesh.identity import names
from mesh.rpc import metadata
from mesh.rpc.call import Call, Interceptor, Proceed
from mesh.rpc.policy import Method
from mesh.rpc.principal import Principal, current_principal
from mesh.rpc.tokens import TokenVerifier

_TENANT: Final = re.compile(r"[a-z0-9-]{1,32}")

# The only one who knows where a client is.
_EDGE: Final = "edge"

# Acts on the platform as a whole, so it may leave the tenant out. Row-level security shows it no shop's data then.
_PLATFORM: Final = "operator"


class Caller(Interceptor):
    """Lets in the services that the method's allowlist names."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Raise CALLER_NOT_ALLOWED for anybody else, and for certificates that name nobody of the mesh."""
        for identity in call.context.auth_context().get("peer_spiffe_id", ()):
            call.caller = names.name_of(identity.decode("utf-8", "replace")) or ""
        if call.caller not in call.method.callers:
            who = call.caller or "a certificate without a mesh name"
            raise Refused(errors_pb2.REASON_CALLER_NOT_ALLOWED, f"{who} may not call {call.method.path[1:]}")
        await proceed()


class Token(Interceptor):
    """Finds out for whom the call is made: a person with a token, or a service acting for itself."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Raise TOKEN_MISSING, or what the verifier says of a token. Sets `principal.current()`.

        A stream whose token is taken back while it is open ends a second later with TOKEN_REVOKED or DISABLED, unless
        its handler has ended it before.
        """
        if call.method.needs_principal:
            call.principal = principal_of(call.method, call.metadata, call.caller, self._verifier)
        elif not call.method.open:
            # A token that happens to come along, perhaps an expired one at refresh, is not looked at.
            call.principal = Principal(
                "",
                0,
                frozenset({options_pb2.ROLE_ANYONE}),
                caller=call.caller,
                address=address_of(call.metadata, call.caller),
            )
        if call.principal is None:
            await proceed()
            return
        before = current_principal.set(call.principal)
        try:
            if call.brief or not call.principal.user_id:
                await proceed()
            else:
                await self._while_valid(call.principal, proceed)
        finally:
            current_principal.reset(before)

    async def _while_valid(self, principal: Principal, proceed: Proceed) -> None:
        """Run a stream until its end, or until its token is taken back."""
        revocations = self._verifier.revocations
        tenant_id, user_id, generation = principal.tenant_id, principal.user_id, principal.generation
        limit = asyncio.timeout(None)
        try:
            async with limit:
                with revocations.holding(tenant_id, user_id, generation, limit):
                    await proceed()
        except TimeoutError:
            if limit.expired():
                revocations.check(tenant_id, user_id, generation)
            raise


class Roles(Interceptor):
    """Lets in the roles and scopes that the contract names."""

    async def around(self, call: Call, proceed: Proceed) -> None:
        """Raise ROLE_NOT_ALLOWED."""
        if call.method.needs_principal:
            check_roles(call.method, call.principal)
        await proceed()


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
    # A partner's role alone opens nothing; it needs one of the method's scopes as well.
    return fitting != {options_pb2.ROLE_PARTNER} or not principal.scopes.isdisjoint(method.scopes)


def principal_of(method: Method, sent: Mapping[str, str], caller: str, verifier: TokenVerifier) -> Principal:
    """Return for whom a call is made, from its metadata.

    Raises:
        Refused: TOKEN_MISSING, what the verifier says of a token, or INVALID_ARGUMENT for a tenant that is none.

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
    # What carries other people's calls never acts for itself, whatever metadata a client got past it.
    itself = caller in names.acting() and options_pb2.ROLE_SERVICE in method.roles
    if itself and (tenant or caller == _PLATFORM):
        if tenant and not _TENANT.fullmatch(tenant):
            raise Refused(errors_pb2.REASON_INVALID_ARGUMENT, "octopus-tenant is not the id of a shop")
        return Principal(tenant or "", 0, frozenset({options_pb2.ROLE_SERVICE}), caller=caller)
    raise Refused(errors_pb2.REASON_TOKEN_MISSING, "the call needs an access token in the authorization header")


def address_of(sent: Mapping[str, str], caller: str) -> str:
    """Return where the client is, empty when nobody said so who may be believed."""
    return sent.get(metadata.CLIENT_ADDRESS, "") if caller == _EDGE else ""
