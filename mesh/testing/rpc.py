"""Real gRPC in tests of kind `service`: a server with every interceptor, tokens, and channels of any caller.

```
keys = Keys()
add = partial(add_BotServiceServicer_to_server, servicer)
async with serving(platform.identity, "bot", keys, add) as address:
    async with dialling(platform.identity, "edge", "bot", address) as channel:
        stub = BotServiceStub(channel)
        await stub.TryQuestion(request, metadata=with_token(keys.token("qingshan", 7, "KNOWLEDGE_ADMIN")))
```
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from mesh.identity.files import Identity
from mesh.rpc.channel import connect
from mesh.rpc.policy import Method
from mesh.rpc.revocations import Revocations
from mesh.rpc.server import Register, Server, build
from mesh.rpc.tokens import ALGORITHM, AUDIENCE, ISSUER, TokenVerifier


class Keys:
    """A signing key like the user service's, and what it signs."""

    def __init__(self, key_id: str = "test-1") -> None:
        """Make a new key."""
        self.key_id = key_id
        self.private = Ed25519PrivateKey.generate()

    def jwks(self) -> str:
        """Return the public half, as the user service publishes it."""
        key = json.loads(OKPAlgorithm.to_jwk(self.private.public_key()))
        return json.dumps({"keys": [{**key, "kid": self.key_id, "alg": ALGORITHM, "use": "sig"}]})

    def verifier(self, revocations: Revocations | None = None) -> TokenVerifier:
        """Return a verifier that knows this key, and what was revoked."""
        verifier = TokenVerifier(revocations=revocations)
        verifier.load(self.jwks())
        return verifier

    def token(self, tenant: str, user_id: int, *roles: str, lifetime: float = 900, **claims: Any) -> str:
        """Return an access token; `roles` lack the prefix ROLE_, `lifetime` is in seconds, `claims` add or replace."""
        now = time.time()
        content = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "tid": tenant,
            "roles": list(roles),
            "scope": "",
            "name": "",
            "iat": int(now),
            "exp": int(now + lifetime),
            "jti": uuid.uuid4().hex,
            **claims,
        }
        return jwt.encode(content, self.private, algorithm=ALGORITHM, headers={"kid": self.key_id})


@asynccontextmanager
async def serving(
    identity: Path,
    name: str,
    keys: Keys,
    *register: Register,
    grace: float = 1.0,
    revocations: Revocations | None = None,
    others: Mapping[str, frozenset[str] | Method] | None = None,
) -> AsyncIterator[str]:
    """Run a server under a member's name on a free port; give `host:port`."""
    server: Server = build(Identity(identity, name), keys.verifier(revocations), *register, others=others)
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop(grace)


@asynccontextmanager
async def dialling(identity: Path, caller: str, service: str, address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a server, as the member `caller`."""
    channel = connect(service, Identity(identity, caller), address=address)
    try:
        yield channel
    finally:
        await channel.close()
