"""The names that may stand in a certificate, and how a name is written in each form.

An allowlist or a permission table that names anybody else is a mistake, and start-up says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

TRUST_DOMAIN: Final = "octopus.local"

# One per folder in services/; a test compares them with the contracts in proto/.
SERVICES: Final = ("user", "chat", "session", "archive", "knowledge", "bot")

# Answers benchmarks, and runs only while one does.
ECHO: Final = "echo"

# Envoy, the WebSocket bridge, the control plane, a person at the `octopus` command, the web page server.
OTHERS: Final = ("edge", "bridge", "control", "operator", "pages", ECHO)

# Servers the members connect to by loopback address, so their leaves also carry `localhost` and 127.0.0.1.
INFRASTRUCTURE: Final = ("postgres", "nats")

# Everyone who may call somebody.
MEMBERS: Final = frozenset(SERVICES + OTHERS)

# Everyone who holds a certificate.
ALL: Final = frozenset(SERVICES + OTHERS + INFRASTRUCTURE)

# The control plane is dialled by address as well: gRPC's xDS bootstrap knows no other name for it.
DIALLED_BY_ADDRESS: Final = frozenset((*INFRASTRUCTURE, "control"))


class UnknownNameError(ValueError):
    """A name that no certificate will ever carry, so naming it is a mistake."""

    def __init__(self, names: Iterable[str]) -> None:
        unknown = ", ".join(sorted(names))
        known = ", ".join(sorted(ALL))
        super().__init__(
            f"unknown in the mesh: {unknown}; known are: {known}. "
            "Correct the name, or add the new member to mesh/identity/names.py"
        )


def check(names: Iterable[str]) -> frozenset[str]:
    """Returns the names as a set. Raises UnknownNameError when one of them belongs to nobody."""
    given = frozenset(names)
    if unknown := given - ALL:
        raise UnknownNameError(unknown)
    return given


def spiffe_id(name: str) -> str:
    """Returns the SPIFFE id of a name: `spiffe://octopus.local/chat`."""
    return f"spiffe://{TRUST_DOMAIN}/{name}"


def dns_name(name: str) -> str:
    """Returns the DNS name in a member's certificate: `chat.octopus.local`."""
    return f"{name}.{TRUST_DOMAIN}"


def name_of(spiffe: str) -> str | None:
    """Returns the known name behind a SPIFFE id, None when the id is foreign, malformed or nobody's."""
    prefix = spiffe_id("")
    name = spiffe.removeprefix(prefix)
    return name if spiffe.startswith(prefix) and name in ALL else None
