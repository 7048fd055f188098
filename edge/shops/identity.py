"""What a shop's own server does for its page: sign the identity of the logged-in customer.

The demo shops have no customers of their own, so one of a few is signed.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

# The shop's own ids and names of the customers one can be in the demo.
CUSTOMERS: Final = {"wang-xiaoming": "王小明", "li-lei": "李雷", "emma-brown": "Emma Brown"}


# Where the shops' pages are.
PREFIX: Final = "/shop"


def add_identities(application: web.Application, secrets: Path) -> None:
    """Answer `POST /shop/<tenant>/identity?customer=<id>` with a signed identity."""

    async def identity(request: web.Request) -> web.Response:
        tenant_id = request.match_info["tenant"]
        secret = _secret(secrets, tenant_id)
        customer_id = request.query.get("customer", "wang-xiaoming")
        if secret is None or customer_id not in CUSTOMERS:
            raise web.HTTPNotFound(text="There is no such demo shop or customer.\n")
        return web.json_response(sign(tenant_id, secret, customer_id, CUSTOMERS[customer_id]))

    application.router.add_post(f"{PREFIX}/{{tenant}}/identity", identity)


def _secret(secrets: Path, tenant_id: str) -> str | None:
    # Read at each request: the demo data is loaded after this server has started.
    if not secrets.exists():
        return None
    shop: dict[str, Any] = orjson.loads(secrets.read_bytes()).get("shops", {}).get(tenant_id, {})
    return shop.get("identity_secret")


def sign(tenant_id: str, secret: str, customer_id: str, display_name: str) -> dict[str, str | int]:
    """Return a `SignedIdentity` in JSON; the contract says over what the signature is."""
    signed_at = int(time.time())
    text = f"{tenant_id}\n{customer_id}\n{display_name}\n{signed_at}"
    return {
        "customerId": customer_id,
        "displayName": display_name,
        "signedAtUnix": str(signed_at),
        "signature": hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest(),
    }
