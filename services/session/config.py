"""Settings of the session service."""

from pathlib import Path

from pydantic import Field

from mesh.process.config import ServiceConfig


class SessionConfig(ServiceConfig):
    """The session service's settings."""

    # Seals what customers said, in summaries and of how they were served.
    keyring_file: Path
    # How long an agent has to accept an offer, in seconds.
    offer_s: float = Field(default=60, gt=0, le=3600)
    # A session without a message for this long is ended, in seconds. Less than the three days that the log is kept,
    # where the time of the last message is read.
    idle_s: float = Field(default=24 * 3600, gt=0, le=2 * 24 * 3600)
    # How often lapsed offers are looked for, and queues that missed something are brought up to date, in seconds.
    lapse_every_s: float = Field(default=1, gt=0, le=60)
    # How often silent customers are looked for, to be reminded and in the end left, in seconds.
    silence_every_s: float = Field(default=1, gt=0, le=60)
    # How often the live queue is compared with the database, in seconds.
    reconcile_every_s: float = Field(default=5, gt=0, le=300)
    # How often agents without a connection are looked for, in seconds.
    absence_every_s: float = Field(default=1, gt=0, le=60)
    # How often idle sessions are looked for, in seconds.
    idle_every_s: float = Field(default=60, gt=0, le=3600)
    # How long changes of the queue are collected before waiting customers are notified, in seconds.
    tell_after_s: float = Field(default=0.3, gt=0, le=10)
