"""Proofs of identity: the signature of a shop's server, and a changed password."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.user.domain.errors import CredentialsWrong, Invalid

SIGNATURE_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SignedShopper:
    """A shopper as the shop's server names and signs one."""

    customer_id: str
    display_name: str
    signed_at_unix: int
    signature: str = field(repr=False)


def identity_text(tenant_id: str, customer_id: str, display_name: str, signed_at_unix: int) -> bytes:
    """Return the bytes that the shop's server signs, as auth_service.proto defines them."""
    return "\n".join((tenant_id, customer_id, display_name, str(signed_at_unix))).encode()


def sign_identity(secret: bytes, text: bytes) -> str:
    """Return the signature of an identity: HMAC-SHA256 in lower-case hexadecimal."""
    return hmac.digest(secret, text, "sha256").hex()


def check_identity(secret: bytes, tenant_id: str, shopper: SignedShopper, now: datetime) -> None:
    """Raise `CredentialsWrong` unless the shop's server signed this identity, at most 5 minutes from now.

    Line feeds part the signed fields, so a name that held one could pass for another customer's id.
    """
    for name, value in (("customer_id", shopper.customer_id), ("display_name", shopper.display_name)):
        if any(ord(character) < 32 for character in value):
            raise Invalid(f"identity.{name}", "control characters are not allowed")
    right = sign_identity(
        secret, identity_text(tenant_id, shopper.customer_id, shopper.display_name, shopper.signed_at_unix)
    )
    fresh = abs(now.timestamp() - shopper.signed_at_unix) <= SIGNATURE_TOLERANCE.total_seconds()
    if not hmac.compare_digest(right, shopper.signature) or not fresh:
        raise CredentialsWrong("the identity's signature is wrong or not of the last 5 minutes; check secret and clock")


def check_new_password(old: str, new: str) -> None:
    """Raise `Invalid` when the new password is no new one."""
    if old == new:
        raise Invalid("new_password", "the new password must differ from the old one")
