"""Settings of the session service."""

from pydantic import Field

from mesh.process.config import ServiceConfig


class SessionConfig(ServiceConfig):
    """What the session service needs besides what every service has."""

    # How long an agent has to accept an offer, in seconds.
    offer_s: float = Field(default=60, gt=0, le=3600)
    # A session without a word for so long is ended, in seconds. Below the three days that the log keeps, which is where
    # the last word is looked up.
    idle_s: float = Field(default=24 * 3600, gt=0, le=2 * 24 * 3600)
    # How often lapsed offers are looked for, and queues that missed something are brought up to date, in seconds.
    lapse_every_s: float = Field(default=1, gt=0, le=60)
    # How often the live queue is compared with the database, in seconds.
    reconcile_every_s: float = Field(default=5, gt=0, le=300)
    # How often idle sessions are looked for, in seconds.
    idle_every_s: float = Field(default=60, gt=0, le=3600)
    # Changes of the queue are gathered for so long before those who wait are told, in seconds.
    tell_after_s: float = Field(default=0.3, gt=0, le=10)
