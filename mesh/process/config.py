"""The settings every process of the mesh has, read from one TOML file."""

from __future__ import annotations

import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mesh.bus.bounds import Bounds


class ConfigError(Exception):
    """The settings file cannot be used. The text says which file, what is wrong, and what to do."""


class ServiceConfig(BaseModel):
    """Settings that every process has; each service extends them in its own `config.py`.

    Frozen, and an unknown key is refused: a misspelt setting must not be a silent default. Secrets are paths of
    files, never values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Which service this is, e.g. "chat"; also the name on its certificate.
    name: str = Field(pattern=r"^[a-z]{2,32}$")
    # Unique among the running copies, e.g. "chat-1".
    instance: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    # Traffic is split by it.
    version: str = Field(default="v1", pattern=r"^v[0-9]{1,6}$")
    # Share of the version's traffic relative to its other instances; 100 is usual.
    weight: int = Field(default=100, ge=1, le=1000)
    # Where its server listens, e.g. "0.0.0.0" on a machine that others reach.
    host: str = "127.0.0.1"
    # The IP address at which others reach it. Absent: `host`, which then must be one that they can reach.
    advertised_host: str | None = None
    # Port of the gRPC server; 0 takes a free one, which is what the registry is told.
    port: int = Field(default=0, ge=0, le=65535)
    # Where the Prometheus metrics are served: they name methods and consumers, so only where they are scraped.
    metrics_host: str = "127.0.0.1"
    # Their port; 0 takes a free one.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    # Folder with `ca.pem` and, for each name, `<name>/cert.pem` and `<name>/key.pem`.
    identity: Path
    # NATS, by mutual TLS with our own leaf, e.g. "tls://127.0.0.1:4222"; several servers of a cluster by commas.
    nats_url: str
    # Who signed the servers' certificates, and then the host's name is checked. Absent: the mesh's own authority.
    nats_ca: Path | None = None
    # File with `user:password`, for a NATS that does not know us by our certificate.
    nats_credentials_file: Path | None = None
    # On how many servers each stream and bucket lies. Only the control process, which makes them, looks at it.
    stream_replicas: int = Field(default=1, ge=1, le=5)
    # The control plane's ADS feed, host:port. Absent: `addresses` are used.
    xds: str | None = None
    # Service name to host:port. For tests and tools only; the mesh finds services by `xds`.
    addresses: dict[str, str] = Field(default_factory=dict)
    # Connection string without credentials, e.g. "host=127.0.0.1 port=5432 dbname=octopus"; with a standby
    # "host=db1,db2 port=5432 dbname=octopus target_session_attrs=read-write". A server that vanished is noticed within
    # 11 s, unless it says otherwise with libpq's keepalives_idle=5 keepalives_interval=2 keepalives_count=3 (seconds
    # and probes of an idle connection), tcp_user_timeout=5000 (milliseconds without an answer), connect_timeout=3.
    postgres: str | None = None
    # Who signed the servers' certificates. Absent: the mesh's own authority.
    postgres_ca: Path | None = None
    # File as libpq's `.pgpass`, mode 0600, for a database that does not know us by our certificate.
    postgres_pass_file: Path | None = None
    # e.g. "redis://127.0.0.1:6379/0", "rediss://" for TLS, or "sentinel://host1:26379,host2:26379/octopus" for the
    # primary that these sentinels name.
    valkey_url: str | None = None
    # Who signed the servers' certificates. Absent: the mesh's own authority.
    valkey_ca: Path | None = None
    # File with the password of this service's Valkey user.
    valkey_password_file: Path | None = None
    # OTLP/HTTP collector, e.g. "http://127.0.0.1:4318". Absent: spans are not exported.
    otlp_endpoint: str | None = None
    # Share of traces that are recorded, 0 to 1.
    trace_ratio: float = Field(default=0.01, ge=0, le=1)
    # The least severe line that is written.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # How long the handling of one message, or batch, from the bus may take before it is cancelled and tried again.
    handler_deadline_s: float = Field(default=30, gt=0, le=600)
    # How long running calls may take to finish after SIGTERM, in seconds.
    shutdown_grace_s: float = Field(default=10, ge=0, le=300)

    @property
    def reached_at(self) -> str:
        """Return the name or address that others are told."""
        return self.advertised_host or self.host

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        try:
            address = ip_address(self.reached_at.strip("[]"))
        except ValueError:
            # What the control plane tells clients are addresses; neither Envoy nor gRPC would look up a name.
            raise ValueError(f"{self.reached_at!r} is no IP address: set `advertised_host` to this machine's") from None
        if address.is_unspecified:
            raise ValueError(f"with host {self.host!r} say in `advertised_host` at which address others reach it")
        return self

    def bus_bounds(self) -> Bounds | None:
        """Return how much the streams may hold, for the process that makes them: the control process alone."""
        return None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a settings file. Raise `ConfigError`."""
        try:
            with path.open("rb") as file:
                values = tomllib.load(file)
        except OSError as error:
            raise ConfigError(
                f"cannot read the settings file {path}: {error.strerror}; give one with --config FILE"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"the settings file {path} is not TOML: {error}") from error
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [
                f"  {'.'.join(map(str, item['loc']))}: "
                + ("there is no such setting" if item["type"] == "extra_forbidden" else item["msg"])
                for item in error.errors(include_input=False)
            ]
            raise ConfigError("\n".join([f"the settings file {path} does not fit {cls.__name__}:", *lines])) from error
