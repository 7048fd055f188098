"""The streams and buckets of the platform; `mesh.bus.provision` creates them."""

from dataclasses import dataclass

from nats.js import api

from mesh.bus.fence import SUBJECTS as FENCES

_MINUTE_S = 60.0
_HOUR_S = 60 * _MINUTE_S
_DAY_S = 24 * _HOUR_S

# An access token lives 15 minutes; clocks may differ a little.
REVOCATION_S = 20 * _MINUTE_S

LOG = "LOG"
EVENT = "EVENT"
NOTICE = "NOTICE"
DEAD = "DEAD"

# The bucket of `mesh.bus.lease`.
LEASES = "leases"


@dataclass(frozen=True)
class Stream:
    """A durable stream. Times in seconds."""

    name: str
    subjects: tuple[str, ...]
    max_age: float
    # How long the server remembers message ids.
    duplicate_window: float
    # (source pattern, destination pattern): each stored message is republished, with its sequence in the headers.
    republish: tuple[str, str] | None = None
    # Whether many messages may be stored at once.
    grouped: bool = False
    # In memory, with at most this many bytes; its messages may be lost when NATS restarts.
    memory_bytes: int = 0
    # Its share of the bytes that the bus may keep in files.
    share: float = 0.0
    # Whether a full stream deletes its oldest messages; otherwise it refuses new ones.
    discards: bool = False
    description: str = ""

    def config(self, max_bytes: int) -> api.StreamConfig:
        """Return the stream's configuration, with at most this many bytes."""
        republish = api.RePublish(src=self.republish[0], dest=self.republish[1]) if self.republish else None
        return api.StreamConfig(
            name=self.name,
            description=self.description,
            subjects=list(self.subjects),
            retention=api.RetentionPolicy.LIMITS,
            discard=api.DiscardPolicy.OLD if self.discards else api.DiscardPolicy.NEW,
            storage=api.StorageType.MEMORY if self.memory_bytes else api.StorageType.FILE,
            max_bytes=self.memory_bytes or max_bytes,
            max_age=self.max_age,
            duplicate_window=self.duplicate_window,
            allow_direct=True,
            republish=republish,
            # So that many messages are synchronized at once, see mesh/bus/group_commit.py.
            allow_atomic=self.grouped,
        )


@dataclass(frozen=True)
class Bucket:
    """A key-value bucket with one value per key. Times in seconds."""

    name: str
    # Seconds after which a key that was not renewed expires; 0 keeps it.
    ttl: float = 0
    description: str = ""

    @property
    def stream(self) -> str:
        """Return the name of the stream that stores the bucket."""
        return f"KV_{self.name}"

    def subject(self, key: str) -> str:
        """Return the subject that stores a key."""
        return f"$KV.{self.name}.{key}"

    def told(self, key: str) -> str:
        """Return the subject on which the server publishes each change of a key."""
        return f"kv.{self.name}.{key}"

    def config(self) -> api.StreamConfig:
        """Return the configuration of the bucket's stream, as all clients of NATS use it for key-value buckets."""
        return api.StreamConfig(
            name=self.stream,
            description=self.description,
            subjects=[self.subject(">")],
            retention=api.RetentionPolicy.LIMITS,
            discard=api.DiscardPolicy.NEW,
            storage=api.StorageType.FILE,
            max_msgs_per_subject=1,
            max_age=self.ttl,
            duplicate_window=min(self.ttl, 2 * _MINUTE_S) or 2 * _MINUTE_S,
            allow_rollup_hdrs=True,
            deny_delete=True,
            allow_direct=True,
            allow_msg_ttl=True,
            # Watchers receive changes on subjects that only the server may publish to.
            republish=api.RePublish(src=self.subject(">"), dest=self.told(">")),
            # The server publishes a marker when a key expires; watchers depend on it.
            subject_delete_marker_ttl=_MINUTE_S if self.ttl else None,
        )


STREAMS: tuple[Stream, ...] = (
    Stream(
        LOG,
        ("log.*.*", FENCES[LOG]),
        grouped=True,
        share=0.6,
        max_age=3 * _DAY_S,
        duplicate_window=2 * _HOUR_S,
        republish=("log.*.*", "live.{{wildcard(1)}}.{{wildcard(2)}}.message"),
        description="Every message of every conversation: log.<tenant>.<session>.",
    ),
    Stream(
        EVENT,
        ("event.>",),
        grouped=True,
        share=0.25,
        max_age=7 * _DAY_S,
        duplicate_window=2 * _HOUR_S,
        description="Events: event.<service>.<tenant>.<id>.",
    ),
    Stream(
        NOTICE,
        ("notice.*.*",),
        memory_bytes=32 * 2**20,
        discards=True,
        max_age=10 * _MINUTE_S,
        duplicate_window=10 * _MINUTE_S,
        description="Notices to one person: notice.<tenant>.<user>.",
    ),
    Stream(
        DEAD,
        ("dead.>",),
        share=0.1,
        discards=True,
        max_age=30 * _DAY_S,
        duplicate_window=2 * _HOUR_S,
        description="Messages that a consumer could not handle: dead.<stream>.<durable>.",
    ),
)

BUCKETS: tuple[Bucket, ...] = (
    Bucket("registry", ttl=3, description="Running instances: <service>.<instance id>, renewed every second."),
    Bucket("traffic", description="How traffic is split between versions: <service>."),
    Bucket("keys", description="The public keys of access tokens: jwks."),
    Bucket(LEASES, ttl=3, description="Leases of jobs that one instance does: <service>.<job>."),
    Bucket(
        "revocations",
        ttl=REVOCATION_S,
        description="Revocations of tokens, kept for the life of a token: <tenant>.<user>.",
    ),
    Bucket("workers", description="Leases of Snowflake worker ids: worker.<number>."),
)


def window_of(name: str) -> float:
    """Return the duplicate window of a stream, in seconds. Raise KeyError when it is not defined here."""
    return {stream.name: stream.duplicate_window for stream in STREAMS}[name]


def stream_of(subject: str) -> str:
    """Return the name of the stream that stores a subject. Raise ValueError when none does."""
    head, _, rest = subject.partition(".")
    if head == "$KV":
        return bucket_of(rest.partition(".")[0]).stream
    for stream in STREAMS:
        for pattern in stream.subjects:
            if _matches(pattern.split("."), subject.split(".")):
                return stream.name
    raise ValueError(f"no stream stores the subject {head}.*; the streams are defined in mesh/bus/streams.py")


def _matches(pattern: list[str], subject: list[str]) -> bool:
    if pattern[-1] == ">":
        return len(subject) >= len(pattern) and _matches(pattern[:-1], subject[: len(pattern) - 1])
    return len(pattern) == len(subject) and all(
        want in ("*", token) for want, token in zip(pattern, subject, strict=True)
    )


def bucket_of(name: str) -> Bucket:
    """Return the bucket of that name. Raise KeyError when it is not defined here."""
    for bucket in BUCKETS:
        if bucket.name == name:
            return bucket
    raise KeyError(f"no bucket {name!r}; the buckets are defined in mesh/bus/streams.py")
