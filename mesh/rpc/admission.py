"""Admission of a person to a method that is carried by another call, by the same rules as the method itself.

A stream that carries the conversations of many people is called by a service for itself; each conversation on it is
admitted here, with the checks of `mesh.rpc.interceptors.admit`.
"""

from __future__ import annotations

from mesh.rpc import metadata, policy
from mesh.rpc.interceptors.admit import check_roles, principal_of
from mesh.rpc.principal import Principal, current_principal
from mesh.rpc.tokens import TokenVerifier
from mesh.telemetry import spans


class Admission:
    """Admits people to one method."""

    def __init__(self, path: str, verifier: TokenVerifier, *, caller: str) -> None:
        """`path` is the method's, as in HTTP/2; `caller` the service that carries the conversations.

        Raises:
            PolicyError: there is no such method, or its contract does not allow the caller.

        """
        method = policy.of(path)
        if method is None or caller not in method.callers:
            raise policy.PolicyError(f"{path} is not a method that {caller} may carry: allow it in the contract")
        self._method = method
        self._verifier = verifier
        self._caller = caller

    def enter(self, token: str, traceparent: str = "") -> Principal:
        """Make the current context that of a call by the token's owner, within the client's trace.

        Raises:
            Refused: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED or ROLE_NOT_ALLOWED.

        """
        spans.enter(self._method.path, {"traceparent": traceparent} if traceparent else {})
        sent = dict(metadata.with_token(token)) if token else {}
        principal = principal_of(self._method, sent, self._caller, self._verifier)
        check_roles(self._method, principal)
        current_principal.set(principal)
        return principal
