"""A member's certificate on disk.

`<folder>/ca.pem` is the authority everyone trusts. `<folder>/<name>` is a symbolic link to the folder of the newest
leaf, with `cert.pem` and `key.pem` inside; a rotation makes a new folder and replaces the link, so that certificate
and key change together. The folder before the newest stays, for a reader that is half way through it.

What reads the plain paths sees a rotation so: gRPC's `file_watcher` compares modification times around its read and
retries; Envoy watches `<folder>` (`watched_directory`) for the link being moved in; Python contexts are refreshed by
`Identity.load_into`.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

# How often a process looks whether its leaf was replaced, in seconds. A leaf is replaced at half its life, so any
# small part of that will do.
FOLLOW_SECONDS = 5.0

_ATTEMPTS = 5


class MissingIdentityError(Exception):
    """There is no certificate where one was expected."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no certificate at {path}: this process has no identity. "
            "`octopus up` issues all of them; check `identity` and `name` in the process's configuration"
        )


@dataclass(frozen=True)
class Identity:
    """The certificate of one member, read from `folder` each time it is asked for."""

    folder: Path
    name: str

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def cert(self) -> Path:
        """The leaf, a path that stays the same through rotations."""
        return self.folder / self.name / "cert.pem"

    @property
    def key(self) -> Path:
        """The leaf's private key, readable by its owner only."""
        return self.folder / self.name / "key.pem"

    def certificate(self) -> x509.Certificate:
        """Return the leaf as it is now. Raise MissingIdentityError."""
        try:
            return x509.load_pem_x509_certificate(self.cert.read_bytes())
        except FileNotFoundError as error:
            raise MissingIdentityError(self.cert) from error

    @property
    def expires_at(self) -> datetime:
        """Until when the leaf is valid, UTC."""
        return self.certificate().not_valid_after_utc

    def due(self, now: datetime | None = None) -> bool:
        """Say whether half of the leaf's life is over, so that it should be replaced."""
        leaf = self.certificate()
        half = leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 2
        return (now or datetime.now(UTC)) >= half

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make the context present the newest leaf in every later handshake. Raise MissingIdentityError.

        Connections that stand are not touched.
        """
        for attempt in range(_ATTEMPTS):
            # Following the link first takes both files from one rotation.
            leaf = (self.folder / self.name).resolve()
            try:
                context.load_cert_chain(leaf / "cert.pem", leaf / "key.pem")
            except FileNotFoundError as error:
                if attempt == _ATTEMPTS - 1:
                    raise MissingIdentityError(self.cert) from error
            else:
                return

    def client_context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 context for connecting out: presents the leaf, trusts the mesh's authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return self._complete(context)

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 context for listening: presents the leaf and refuses clients without a mesh certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._complete(context)

    def _complete(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if not self.ca.is_file():
            raise MissingIdentityError(self.ca)
        context.load_verify_locations(self.ca)
        self.load_into(context)
        return context

    def libpq(self) -> dict[str, str]:
        """Return the connection parameters with which PostgreSQL and its client prove themselves to each other.

        libpq reads the files at each new connection, so a pool picks up a rotation by itself.
        """
        return {
            "user": f"octopus_{self.name}",
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca),
            "sslcert": str(self.cert),
            "sslkey": str(self.key),
        }

    async def follow(self, *contexts: ssl.SSLContext, every: float = FOLLOW_SECONDS) -> None:
        """Keep the contexts on the newest leaf until cancelled; look each `every` seconds.

        Run it as a task beside a long-lived client or server that reconnects with the same context.
        """
        seen = (self.folder / self.name).resolve()
        while True:
            await asyncio.sleep(every)
            newest = (self.folder / self.name).resolve()
            if newest != seen:
                for context in contexts:
                    self.load_into(context)
                seen = newest
