"""Access tokens: EdDSA JWTs, as auth_service.proto describes them, and the JWK Set that verifies them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.user.domain import ACCESS_LIFETIME, User

ISSUER = AUDIENCE = "octopus"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair; it signs from `active_from` until the next one does."""

    kid: str
    private_key: bytes = field(repr=False)
    public_key: bytes
    active_from: datetime


def new_key(now: datetime, active_from: datetime) -> SigningKey:
    """Return a fresh key pair; its id contains when it was made."""
    pair = Ed25519PrivateKey.generate()
    kid = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    return SigningKey(kid, pair.private_bytes_raw(), pair.public_key().public_bytes_raw(), active_from)


def sign(user: User, key: SigningKey, now: datetime, *, scopes: Sequence[str] = ()) -> tuple[str, datetime]:
    """Return an access token for the user, and when it ends."""
    ends = now.replace(microsecond=0) + ACCESS_LIFETIME
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user.id),
        "tid": user.tenant_id,
        "roles": [role.name for role in user.roles],
        "scope": " ".join(scopes),
        "name": user.display_name,
        "gen": user.token_generation,
        "iat": int(now.timestamp()),
        "exp": int(ends.timestamp()),
        "jti": secrets.token_urlsafe(12),
    }
    private = Ed25519PrivateKey.from_private_bytes(key.private_key)
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": key.kid}), ends


def key_set(keys: Iterable[SigningKey]) -> str:
    """Return the public keys as a JWK Set (RFC 7517, RFC 8037), the newest first."""
    newest_first = sorted(keys, key=lambda key: (key.active_from, key.kid), reverse=True)
    return json.dumps({"keys": [_public(key) for key in newest_first]}, separators=(",", ":"))


def _public(key: SigningKey) -> dict[str, str]:
    x = base64.urlsafe_b64encode(key.public_key).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.kid, "x": x}
