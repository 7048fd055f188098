"""Access tokens that the platform did not give out: signed with its own key, with another, or not at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from e2e.clients.edge import Identity
from mesh.identity.files import Identity as Certificate
from mesh.platform.folder import Folder
from mesh.stores import postgres
from mesh.stores.keyring import Keyring
from services.user.config import UserConfig
from services.user.tokens.access import SigningKey
from services.user.tokens.signing_key_store import KeyStore

_ISSUER = "octopus"


async def stolen_key(root: Path) -> SigningKey:
    """Return the key that signs now, as only somebody with the user service's files can: to test what it signs."""
    config = UserConfig.read(Folder(root).config / "user-1.toml")
    assert config.postgres is not None
    certificate = Certificate(config.identity, config.name)
    async with postgres.connect(config.postgres, certificate) as db, db.platform() as conn:
        keys = await KeyStore(Keyring(config.keyring_file)).all(conn)
    return min(keys, key=lambda key: key.active_from)


class Forger:
    """Makes tokens about a person."""

    def __init__(self, key: SigningKey, about: Identity) -> None:
        self._kid = key.kid
        self._key = Ed25519PrivateKey.from_private_bytes(key.private_key)
        self._public = key.public_key
        self._about = about

    def signed(self, **changed: Any) -> str:
        """Return a token that is good but for the claims given; None removes a claim."""
        return self._sign(self._key, **changed)

    def expired(self) -> str:
        """Return a token that was good a minute ago."""
        return self.signed(exp=int(time.time()) - 60)

    def forged(self) -> str:
        """Return a token signed by a key that calls itself the platform's."""
        return self._sign(Ed25519PrivateKey.generate())

    def unsigned(self) -> str:
        """Return a token that says it needs no signature."""
        return jwt.encode(self._claims(), "", "none", headers={"kid": self._kid})

    def confused(self) -> str:
        """Return a token whose secret is the public key, for a verifier that takes the algorithm from the token."""
        return jwt.encode(self._claims(), self._public, "HS256", headers={"kid": self._kid})

    def _sign(self, key: Ed25519PrivateKey, **changed: Any) -> str:
        return jwt.encode(self._claims(**changed), key, "EdDSA", headers={"kid": self._kid})

    def _claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": _ISSUER,
            "sub": str(self._about.user_id),
            "tid": self._about.tenant_id,
            "roles": ["CUSTOMER"],
            "scope": "",
            "name": "",
            "iat": now,
            "exp": now + 600,
            "jti": "forged",
        }
        return {claim: value for claim, value in (claims | changed).items() if value is not None}
