"""The names that may stand in a certificate, from the manifests, and how a name is written in each form.

An allowlist or a permission table that names anybody else is a mistake, and start-up says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from mesh.manifest import manifests

TRUST_DOMAIN: Final = "octopus.local"

# Answers benchmarks, and runs only while one does.
ECHO: Final = "echo"

# Members without a manifest: Envoy, a person at the `octopus` command, and the above.
_WITHOUT_MANIFEST: Final = ("edge", "operator", ECHO)

# Servers the members connect to by loopback address, so their leaves also carry `localhost` and 127.0.0.1.
INFRASTRUCTURE: Final = ("postgres", "nats")

# The control plane is dialled by address as well: gRPC's xDS bootstrap knows no other name for it.
DIALLED_BY_ADDRESS: Final = frozenset((*INFRASTRUCTURE, "control"))


@cache
def services() -> tuple[str, ...]:
    """Return the names of the services, one for each manifest in `services/`."""
    return tuple(name for name, manifest in manifests().items() if manifest.is_service)


@cache
def members() -> frozenset[str]:
    """Return the names of all members that may be callers."""
    return frozenset((*manifests(), *_WITHOUT_MANIFEST))


@cache
def acting() -> frozenset[str]:
    """Return the names of those who may act for themselves: the services, and the operator.

    Everybody else (Envoy, the bridge, the page server) only carries what others say, so nothing that comes through them
    without a person's token is believed.
    """
    return frozenset((*services(), "operator"))


@cache
def everybody() -> frozenset[str]:
    """Return the names of all who hold a certificate."""
    return members().union(INFRASTRUCTURE)


class UnknownNameError(ValueError):
    """A name that no certificate will ever carry, so naming it is a mistake."""

    def __init__(self, names: Iterable[str]) -> None:
        unknown = ", ".join(sorted(names))
        known = ", ".join(sorted(everybody()))
        super().__init__(
            f"unknown in the mesh: {unknown}; known are: {known}. Correct the name, or give the new program a manifest"
        )


def check(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set. Raise UnknownNameError when one of them is unknown."""
    given = frozenset(names)
    if unknown := given - everybody():
        raise UnknownNameError(unknown)
    return given


def spiffe_id(name: str) -> str:
    """Return the SPIFFE id of a name: `spiffe://octopus.local/chat`."""
    return f"spiffe://{TRUST_DOMAIN}/{name}"


def dns_name(name: str) -> str:
    """Return the DNS name in a member's certificate: `chat.octopus.local`."""
    return f"{name}.{TRUST_DOMAIN}"


def name_of(spiffe: str) -> str | None:
    """Return the known name behind a SPIFFE id, None when the id is foreign, malformed or unknown."""
    prefix = spiffe_id("")
    name = spiffe.removeprefix(prefix)
    return name if spiffe.startswith(prefix) and name in everybody() else None
