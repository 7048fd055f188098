"""The certificate authority of one machine.

Its key is in `<folder>/authority/key.pem` (mode 0600) and never leaves the machine; its certificate in
`<folder>/ca.pem`. Leaves live an hour and are replaced at half of it, so a stolen one is of little use and nothing has
to be revoked.
"""

from __future__ import annotations

import ipaddress
import secrets
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.atomic_file import write
from mesh.identity import names
from mesh.identity.files import Identity

LEAF_LIFETIME = timedelta(hours=1)
AUTHORITY_LIFETIME = timedelta(days=3650)

# What clients outside the mesh trust is replaced once a week; browsers dislike certificates of a year and more.
PUBLIC_LIFETIME = timedelta(days=14)

# A clock that is a little behind must not refuse a leaf that was just made.
_CLOCK_SKEW = timedelta(minutes=1)

_LOOPBACK = ("localhost", "127.0.0.1")


class BrokenAuthorityError(Exception):
    """The authority's certificate and key do not belong together, or cannot be read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"the certificate authority in {folder} cannot be read or its key does not fit its certificate. "
            f"Remove {folder} and start again: a new authority and new certificates are made"
        )


class Authority:
    """Issues certificates. Made on first use: a folder without one gets a new key and a self-signed certificate."""

    def __init__(self, folder: Path, title: str = "Octopus mesh authority") -> None:
        """Open or make the authority in `folder`; `title` names it in its certificate.

        Raise BrokenAuthorityError when what lies there is damaged.
        """
        self.folder = folder
        key_file, cert_file = folder / "authority" / "key.pem", folder / "ca.pem"
        if not key_file.exists():
            _make_authority(folder, title)
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            self.certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        except (OSError, ValueError) as error:
            raise BrokenAuthorityError(folder) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or self.certificate.public_key() != key.public_key():
            raise BrokenAuthorityError(folder)
        self._key = key

    def issue(self, name: str, lifetime: timedelta = LEAF_LIFETIME, hosts: Sequence[str] = ()) -> Identity:
        """Issue a new leaf to a member of the mesh and return its folder. Raise UnknownNameError.

        The leaf carries `spiffe://octopus.local/<name>`, `<name>.octopus.local`, the loopback address for the servers
        that are dialled by it, and `hosts`: further names and addresses at which other machines dial it.
        """
        names.check([name])
        alternatives: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(names.spiffe_id(name)),
            x509.DNSName(names.dns_name(name)),
        ]
        if name in names.DIALLED_BY_ADDRESS:
            alternatives += _host_names(_LOOPBACK)
        alternatives += _host_names(hosts)
        return self._place(
            name, alternatives, lifetime, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )

    def issue_public(
        self, name: str, hosts: Sequence[str] = _LOOPBACK, lifetime: timedelta = PUBLIC_LIFETIME
    ) -> Identity:
        """Give the edge a certificate for outside clients: DNS names or IP addresses, and no identity in the mesh."""
        return self._place(name, _host_names(hosts), lifetime, [ExtendedKeyUsageOID.SERVER_AUTH])

    def holds(self, identity: Identity) -> bool:
        """Say whether the identity has a leaf, of this authority, that is valid now."""
        if not identity.cert.is_file() or not identity.key.is_file():
            return False
        leaf = identity.certificate()
        try:
            leaf.verify_directly_issued_by(self.certificate)
        except Exception:  # noqa: BLE001 - InvalidSignature, ValueError and TypeError all mean: not ours
            return False
        return leaf.not_valid_before_utc <= datetime.now(UTC) < leaf.not_valid_after_utc

    def names_hosts(self, identity: Identity, hosts: Sequence[str]) -> bool:
        """Say whether the identity's leaf carries all of these names and addresses."""
        held = identity.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return all(wanted in held for wanted in _host_names(hosts))

    def _place(
        self,
        name: str,
        alternatives: Sequence[x509.GeneralName],
        lifetime: timedelta,
        usage: Sequence[x509.ObjectIdentifier],
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(_common_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        identity = Identity(self.folder, name)
        _replace_leaf(identity, leaf.public_bytes(serialization.Encoding.PEM), _private_pem(key))
        return identity


def _replace_leaf(identity: Identity, cert: bytes, key: bytes) -> None:
    """Put a pair in a folder of its own and move the identity's link onto it; keep the pair before, drop older ones."""
    link = identity.folder / identity.name
    leaves = identity.folder / "leaves"
    leaves.mkdir(exist_ok=True)
    token = secrets.token_hex(4)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    newest = leaves / f"{identity.name}-{stamp}-{token}"
    newest.mkdir()
    write(newest / "cert.pem", cert, mode=0o644)
    write(newest / "key.pem", key, mode=0o600)
    moving = leaves / f".{identity.name}-{token}"
    moving.symlink_to(Path("leaves") / newest.name)
    previous = link.resolve() if link.is_symlink() else None
    moving.replace(link)
    for old in leaves.glob(f"{identity.name}-*"):
        if old not in (newest, previous):
            shutil.rmtree(old, ignore_errors=True)


def _make_authority(folder: Path, title: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_common_name(title))
        .issuer_name(_common_name(title))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "authority").mkdir(mode=0o700, exist_ok=True)
    write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    # The key comes last: a folder with a key is a finished authority.
    write(folder / "authority" / "key.pem", _private_pem(key), mode=0o600)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_host_name(host) for host in hosts]


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
