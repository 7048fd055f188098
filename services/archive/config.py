"""Settings of the archive service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mesh.process.config import ServiceConfig


class ArchiveConfig(ServiceConfig):
    """What the archive needs besides what every service does."""

    # Seals the messages; made, and given a new key, by `python -m mesh.stores.keyring FILE`.
    keyring_file: Path
    # At most so many entries of the log in one transaction.
    batch_size: int = Field(default=500, ge=1, le=5000)
    # How long a batch may gather, in seconds; history is behind by at most this and one transaction.
    batch_wait_s: float = Field(default=0.2, ge=0, le=1)
