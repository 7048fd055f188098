"""Verify access tokens with the public keys and the revocations that the user service publishes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import structlog
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2

from mesh.errors import Refused
from mesh.rpc.revocations import Revocations

_log = structlog.get_logger(__name__)

ISSUER: Final = "octopus"
AUDIENCE: Final = "octopus"
ALGORITHM: Final = "EdDSA"

# Verifying takes 0.2 ms, looking up 1 µs. Enough for the users that one process serves at a time.
_MOST_CACHED: Final = 20_000
_TENANT: Final = re.compile(r"[a-z0-9-]{1,32}")

# Roles that only a certificate can prove; in a token they are ignored.
_NEVER_FROM_TOKEN: Final = frozenset({options_pb2.ROLE_UNSPECIFIED, options_pb2.ROLE_ANYONE, options_pb2.ROLE_SERVICE})


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token. `expires_at` is in seconds since the epoch, `generation` counts revocations."""

    tenant_id: str
    user_id: int
    roles: frozenset[int]
    scopes: frozenset[str]
    display_name: str = field(repr=False)
    expires_at: float
    generation: int = 0


class TokenVerifier:
    """Verifies tokens with the current keys and revocations, and caches the result.

    While NATS is unreachable the last keys and revocations stay in force: tokens live 15 minutes, and refusing all of
    them would be worse than accepting one whose user was disabled in the meantime. Before the first ones have arrived,
    all tokens are refused.
    """

    def __init__(self, clock: Callable[[], float] = time.time, *, revocations: Revocations | None = None) -> None:
        self._clock = clock
        # Tokens that were revoked before they expired.
        self.revocations: Final = Revocations() if revocations is None else revocations
        self._keys: dict[str, jwt.PyJWK] = {}
        self._cache: dict[str, Claims] = {}

    @property
    def ready(self) -> bool:
        """Return whether keys and revocations have arrived, so that tokens can be verified."""
        return bool(self._keys) and self.revocations.known

    def load(self, jwks: bytes | str) -> None:
        """Replace the keys by those of a JSON Web Key Set (RFC 7517).

        A document that cannot be read, or has no usable key, is logged and changes nothing.
        """
        try:
            keys = {key.key_id: key for key in _usable(json.loads(jwks)) if key.key_id is not None}
        except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
            _log.error("key set not understood, keeping the keys so far", error=type(error).__name__)
            return
        if not keys:
            _log.error("key set without a usable key, keeping the keys so far")
            return
        if keys.keys() != self._keys.keys():
            _log.info("token keys changed", key_ids=sorted(keys))
        self._keys = keys
        # A key may have been withdrawn, so its tokens must be verified again.
        self._cache.clear()

    def verify(self, token: str) -> Claims:
        """Return the claims of a token.

        Raise `Refused`: TOKEN_INVALID when it is malformed, forged, or not signed with EdDSA by a key of the set,
        TOKEN_EXPIRED, TOKEN_REVOKED or DISABLED when it was revoked, or UNAVAILABLE before keys and revocations have
        arrived.
        """
        claims = self._cache.get(token)
        if claims is None:
            claims = self._verified(token)
            while len(self._cache) >= _MOST_CACHED:
                # The oldest entry is the first to expire, more or less: tokens have one lifetime.
                del self._cache[next(iter(self._cache))]
            self._cache[token] = claims
        if claims.expires_at <= self._clock():
            self._cache.pop(token, None)
            raise _expired()
        self.revocations.check(claims.tenant_id, claims.user_id, claims.generation)
        return claims

    def _verified(self, token: str) -> Claims:
        if not self._keys:
            raise Refused(
                errors_pb2.REASON_UNAVAILABLE, "no key to verify tokens has arrived yet; try again", retry_after=1.0
            )
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise _invalid("signed by a key that is not in the key set")
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # Expiry is checked by our clock at every use, also of cached tokens.
                options={"require": ["exp", "sub", "tid", "roles"], "verify_exp": False, "verify_iat": False},
            )
            return _claims(claims)
        except jwt.PyJWTError as error:
            # The text of a JWT error may quote the token's content.
            raise _invalid(type(error).__name__) from None


def _usable(document: Mapping[str, Any]) -> list[jwt.PyJWK]:
    return [jwt.PyJWK(key) for key in document["keys"] if key.get("kty") == "OKP" and key.get("crv") == "Ed25519"]


def _claims(claims: Mapping[str, Any]) -> Claims:
    tenant, subject, roles = claims["tid"], claims["sub"], claims["roles"]
    if not (isinstance(tenant, str) and _TENANT.fullmatch(tenant)):
        raise _invalid("claim tid")
    if not (isinstance(subject, str) and subject.isdecimal() and 0 < int(subject) < 2**63):
        raise _invalid("claim sub")
    if not (isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
        raise _invalid("claim roles")
    if not isinstance(claims["exp"], int | float):
        raise _invalid("claim exp")
    # Tokens from before there were generations have none, and are older than any revocation.
    generation = claims.get("gen", 0)
    if not isinstance(generation, int) or generation < 0:
        raise _invalid("claim gen")
    known = options_pb2.Role.items()
    # Roles newer than this code are ignored.
    values = frozenset(value for name, value in known if name.removeprefix("ROLE_") in roles) - _NEVER_FROM_TOKEN
    return Claims(
        tenant_id=tenant,
        user_id=int(subject),
        roles=frozenset(int(value) for value in values),
        scopes=frozenset(str(claims.get("scope") or "").split()),
        display_name=str(claims.get("name") or ""),
        expires_at=float(claims["exp"]),
        generation=generation,
    )


def _invalid(why: str) -> Refused:
    return Refused(errors_pb2.REASON_TOKEN_INVALID, f"the access token is not valid: {why}; log in again")


def _expired() -> Refused:
    return Refused(errors_pb2.REASON_TOKEN_EXPIRED, "the access token has expired; refresh it")
