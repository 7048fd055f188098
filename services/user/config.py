"""Settings of the user service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mesh.process.config import ServiceConfig


class UserConfig(ServiceConfig):
    """What the user service needs besides what every service does."""

    # Seals telephone numbers, identity secrets and private keys; made by `python -m mesh.stores.keyring FILE`.
    keyring_file: Path
    # A new signing key this often, in days; the old one verifies until its last token has ended.
    signing_key_days: float = Field(default=30, gt=0)
    # How many passwords are hashed at once; each takes 46 MiB.
    password_threads: int = Field(default=2, ge=1, le=16)
    # New anonymous visitors of one shop a minute, from one address and altogether; as many may come at once. Shoppers
    # whom the shop's server has signed are limited by the edge alone.
    visitors_per_minute_per_address: int = Field(default=120, ge=1, le=1_000_000)
    visitors_per_minute_per_shop: int = Field(default=3_000, ge=1, le=1_000_000)
    # A visitor who never begins a conversation is deleted after so many days.
    visitor_days: float = Field(default=7, ge=1)
