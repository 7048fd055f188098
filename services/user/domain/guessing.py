"""How long to wait before the next guess at a password, and what counts as one place."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta

# Failures are forgotten this long after the last one.
GUESS_WINDOW = timedelta(hours=1)
# How long an address counts as known after a log-in from it.
ADDRESS_KNOWN = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class GuessLimit:
    """So many failures are free; each further one makes the next attempt wait twice as long as the one before."""

    free: int
    first: timedelta
    longest: timedelta

    def milliseconds(self) -> tuple[int, int, int]:
        """Return the free failures, and both delays in milliseconds."""
        return self.free, int(self.first.total_seconds() * 1000), int(self.longest.total_seconds() * 1000)


# A name at one address: failures delay attempts from there, and not from other addresses.
GUESSES_AT_ADDRESS = GuessLimit(5, timedelta(seconds=1), timedelta(minutes=15))
# The same at an address where this name has logged in before: others there must not lock its owner out for long.
GUESSES_AT_KNOWN_ADDRESS = GuessLimit(10, timedelta(seconds=1), timedelta(seconds=30))
# One address that tries one password with many names.
GUESSES_OF_ADDRESS = GuessLimit(50, timedelta(seconds=1), timedelta(minutes=5))
# One name that is tried from many addresses. Short, for it also meets its owner who is somewhere new.
GUESSES_OF_NAME = GuessLimit(50, timedelta(seconds=1), timedelta(seconds=10))


def delay(failures: int, limit: GuessLimit) -> float:
    """Return how many seconds must pass after so many failures before the next attempt."""
    if failures <= limit.free:
        return 0.0
    # More doublings than that are longer than any limit.
    doublings = min(failures - limit.free - 1, 30)
    return min(limit.longest.total_seconds(), limit.first.total_seconds() * float(2**doublings))


def network_of(address: str) -> str:
    """Return what counts as one place: an address of version 4, or the 64-bit network of one of version 6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
