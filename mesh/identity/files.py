"""A member's certificate on disk.

`<folder>/ca.pem` is the authority everyone trusts. `<folder>/<name>` is a symbolic link to the folder of the newest
leaf, with `cert.pem` and `key.pem` inside; a rotation makes a new folder and replaces the link, so that certificate
and key change together. The folder before the newest stays, for a reader that is half way through it.

What reads the plain paths sees a rotation so: gRPC's `file_watcher` compares modification times around its read and
retries; Envoy watches `<folder>` (`watched_directory`) for the link being moved in; Python contexts are refreshed by
`Identity.load_into`. The files may also be those of an authority of the operator, who renews them in place, as
a mounted secret: a change of inode, time or size is a rotation; a key that does not fit its certificate is waited for.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

# How often a process looks whether its leaf was replaced, in seconds. A leaf is replaced at half its life, so any
# small part of that will do.
FOLLOW_SECONDS = 5.0

_ATTEMPTS = 5

_log = structlog.get_logger(__name__)


class MissingIdentityError(Exception):
    """There is no certificate where one was expected."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no certificate at {path}: this process has no identity. "
            "`octopus up` issues all of them; check `identity` and `name` in the process's configuration"
        )


class TornIdentityError(Exception):
    """The key and the certificate do not belong together."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the certificate {path} and the key beside it do not belong together: "
            "they are being replaced, or one of them was put there by mistake"
        )


@dataclass(frozen=True)
class Identity:
    """The certificate of one member, read from `folder` each time it is asked for."""

    folder: Path
    name: str

    @property
    def ca(self) -> Path:
        """Return the authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def cert(self) -> Path:
        """Return the leaf, a path that stays the same through rotations."""
        return self.folder / self.name / "cert.pem"

    @property
    def key(self) -> Path:
        """Return the leaf's private key, readable by its owner only."""
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

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Return what differs once the leaf or the authority was replaced, by our rotation or another one.

        Raise MissingIdentityError while a file is missing.
        """
        try:
            found = [path.stat() for path in (self.cert, self.key, self.ca)]
        except OSError as error:
            raise MissingIdentityError(self.cert) from error
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)

    def pair(self) -> tuple[bytes, bytes]:
        """Return the key and the certificate chain, which belong together.

        Whoever replaces the files one by one leaves a moment in which they do not: then, after some attempts, raise
        TornIdentityError. Raise MissingIdentityError when there is none.
        """
        for _ in range(_ATTEMPTS):
            # Following the link first takes both files from one rotation.
            leaf = (self.folder / self.name).resolve()
            try:
                key, chain = (leaf / "key.pem").read_bytes(), (leaf / "cert.pem").read_bytes()
            except OSError:
                continue
            private = serialization.load_pem_private_key(key, password=None)
            if private.public_key() == x509.load_pem_x509_certificate(chain).public_key():
                return key, chain
        raise TornIdentityError(self.cert) if self.cert.exists() else MissingIdentityError(self.cert)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make the context present the newest leaf, and trust the newest authority, in every later handshake.

        Open connections are not affected. Raise MissingIdentityError or TornIdentityError.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            # A context that was given half of a new pair would present it.
            self.pair()
            leaf = (self.folder / self.name).resolve()
            try:
                context.load_cert_chain(leaf / "cert.pem", leaf / "key.pem")
                context.load_verify_locations(self.ca)
            except (FileNotFoundError, ssl.SSLError) as error:
                if attempt == _ATTEMPTS:
                    found = isinstance(error, ssl.SSLError)
                    raise (TornIdentityError if found else MissingIdentityError)(self.cert) from error
            else:
                return

    def client_context(self, ca: Path | None = None) -> ssl.SSLContext:
        """Return a TLS 1.3 context for connecting out: presents the leaf, trusts the mesh's authority.

        `ca` names another authority to trust instead, for a server that is not the mesh's own.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is None:
            return self._complete(context)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not ca.is_file():
            raise MissingIdentityError(ca)
        context.load_verify_locations(ca)
        self.pair()
        context.load_cert_chain(self.cert, self.key)
        return context

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 context for listening: presents the leaf and refuses clients without a mesh certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._complete(context)

    def _complete(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if not self.ca.is_file():
            raise MissingIdentityError(self.ca)
        self.load_into(context)
        return context

    def libpq(self) -> dict[str, str]:
        """Return the connection parameters with which PostgreSQL and its client prove themselves to each other.

        libpq reads the files at each new connection, so a pool follows a rotation.
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
        seen = self.stamp()
        while True:
            await asyncio.sleep(every)
            try:
                newest = self.stamp()
                if newest != seen:
                    for context in contexts:
                        self.load_into(context)
                    seen = newest
            except (MissingIdentityError, TornIdentityError, ValueError) as error:
                # The files are being replaced. The contexts keep the previous ones.
                _log.warning("certificate cannot be read, keeping the one before", error=str(error))
