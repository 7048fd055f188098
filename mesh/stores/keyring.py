"""Encryption of stored values: AES-256-GCM with keys that can be rotated.

A keyring is a file with one key a line, `<key id> <32 bytes in base64>`; the last line is the newest key.
The newest key seals, all keys open. To rotate, append a line (`python -m mesh.stores.keyring FILE`) and start the
services again one by one: an instance reads the file again when a value has an unknown key id.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_ID = re.compile(r"^[A-Za-z0-9_-]{1,32}$")
_NONCE_BYTES = 12


class KeyringError(Exception):
    """The key file is missing or malformed, a key is not in it, or sealed bytes were tampered with."""


class Keyring:
    """The keys of one file, read at once and again for an unknown key id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, bytes] = {}
        self._newest = ""
        self._read()

    def seal(self, plain: bytes, *, context: bytes) -> bytes:
        """Return `plain` sealed under the newest key; `context` is bound to it and not stored.

        The result is: length of the key id (1 byte), key id, nonce (12 bytes), ciphertext and tag. Nonces are random:
        a key is good for 2^32 sealings (NIST SP 800-38D, section 8.3), then rotate it.
        """
        return self.seal_all([(plain, context)])[0]

    def seal_all(self, plains: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Return each of `plains` sealed for the context beside it, as `seal` does; one call of the system for all."""
        cipher = AESGCM(self._keys[self._newest])
        head = bytes([len(self._newest)]) + self._newest.encode()
        nonces = os.urandom(_NONCE_BYTES * len(plains))
        sealed = []
        for number, (plain, context) in enumerate(plains):
            nonce = nonces[_NONCE_BYTES * number : _NONCE_BYTES * (number + 1)]
            sealed.append(head + nonce + cipher.encrypt(nonce, plain, context))
        return sealed

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Return what `seal` was given, or raise `KeyringError` when key, context or bytes are not the same."""
        key_id = key_id_of(sealed)
        if key_id not in self._keys:
            self._read()
        if key_id not in self._keys:
            raise KeyringError(f"{self._path} does not hold the key {key_id!r}; restore its line")
        start = 1 + len(key_id)
        nonce, cipher = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            return AESGCM(self._keys[key_id]).decrypt(nonce, cipher, context)
        except (InvalidTag, ValueError) as wrong:
            raise KeyringError(f"sealed bytes under the key {key_id!r} are damaged, or of another place") from wrong

    def derive(self, label: str) -> bytes:
        """Return 32 secret bytes made from the newest key for one purpose, named by `label`."""
        return hmac.digest(self._keys[self._newest], b"octopus derive " + label.encode(), "sha256")

    def encoded(self) -> dict[str, str]:
        """Return all keys in base64 by their ids, the newest last: for a server that seals its own files."""
        return {key_id: base64.b64encode(key).decode() for key_id, key in self._keys.items()}

    def _read(self) -> None:
        try:
            lines = self._path.read_text("ascii").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyringError(f"cannot read the keyring {self._path}: {error}") from error
        keys: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            key_id, _, encoded = line.strip().partition(" ")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not _KEY_ID.match(key_id) or len(key) != 32 or key_id in keys:
                raise KeyringError(f"{self._path}, line {number}: want a new key id, a blank and 32 bytes in base64")
            keys[key_id] = key
        if not keys:
            raise KeyringError(f"{self._path} holds no key; make one with: python -m mesh.stores.keyring {self._path}")
        self._keys, self._newest = keys, list(keys)[-1]


def key_id_of(sealed: bytes) -> str:
    """Return the id of the key that sealed these bytes."""
    try:
        length = sealed[0]
        return sealed[1 : 1 + length].decode("ascii")
    except (IndexError, UnicodeDecodeError) as error:
        raise KeyringError("these bytes were not sealed by a keyring") from error


def add_key(path: Path) -> str:
    """Append a fresh key to the file, making it (mode 0600) when it is not there, and return the key's id."""
    count = len(path.read_text("ascii").split("\n")) - 1 if path.exists() else 0
    key_id = f"k{count + 1}"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key_id} {base64.b64encode(os.urandom(32)).decode()}\n")
    return key_id


if __name__ == "__main__":
    print(f"added the key {add_key(Path(sys.argv[1]))}")  # noqa: T201 - a command answers on stdout
