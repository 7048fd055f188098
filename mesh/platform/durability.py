"""What an acknowledgement of the bus promises, as one setting of the platform."""

from __future__ import annotations

from enum import StrEnum


class Durability(StrEnum):
    """What has happened to a message when NATS acknowledges it. A killed server loses nothing either way."""

    # It is on the disk: a power cut loses nothing that was acknowledged.
    ALWAYS = "always"
    # The operating system has it, and the disk within a second: a power cut loses up to a second of messages.
    INTERVAL = "interval"
