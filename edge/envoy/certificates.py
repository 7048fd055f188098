"""Where Envoy finds certificates: in files that it reads again when a rotation replaces them.

Envoy only rotates what comes by its secret discovery (SDS), so each certificate gets a small SDS file that names the
real ones. They are written once; Envoy watches the folder for rotations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from mesh.atomic_file import write
from mesh.control.resources import is_exactly, pack
from mesh.identity.files import Identity

_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

_LEAF: Final = "leaf"
_AUTHORITY: Final = "authority"
_PUBLIC: Final = "public"

# What outside clients may speak. Everything that has been sold for years knows TLS 1.3.
_TLS_1_3: Final = tls.TlsParameters(
    tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_3,
    tls_maximum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_3,
)


@dataclass(frozen=True)
class Certificates:
    """Envoy's certificates: its own leaf in the mesh, the mesh's authority, and the public one."""

    # Where the SDS files lie.
    folder: Path
    # Envoy as a member of the mesh.
    leaf: Identity
    # Envoy as outside clients know it.
    public: Identity

    def write(self) -> None:
        """Write the SDS files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(_LEAF, _certificate(_LEAF, self.leaf))
        self._write(_PUBLIC, _certificate(_PUBLIC, self.public))
        authority = tls.CertificateValidationContext(
            trusted_ca=core.DataSource(filename=str(self.leaf.ca)),
            watched_directory=core.WatchedDirectory(path=str(self.leaf.folder)),
        )
        self._write(_AUTHORITY, tls.Secret(name=_AUTHORITY, validation_context=authority))

    def downstream(self, *alpn: str) -> core.TransportSocket:
        """Return how outside clients are met: TLS 1.3, HTTP/2 or HTTP/1.1 unless said otherwise, no certificate."""
        context = tls.DownstreamTlsContext(
            common_tls_context=tls.CommonTlsContext(
                tls_params=_TLS_1_3,
                alpn_protocols=list(alpn or ("h2", "http/1.1")),
                tls_certificate_sds_secret_configs=[self._config(_PUBLIC)],
            )
        )
        return _socket(context)

    def upstream(self, service: str, *alpn: str) -> core.TransportSocket:
        """Return how a member of the mesh is met: with our leaf, and only if it proves to be that very member."""
        context = tls.UpstreamTlsContext(
            common_tls_context=tls.CommonTlsContext(
                tls_params=_TLS_1_3,
                alpn_protocols=list(alpn),
                tls_certificate_sds_secret_configs=[self._config(_LEAF)],
                combined_validation_context=tls.CommonTlsContextCombinedCertificateValidationContext(
                    default_validation_context=tls.CertificateValidationContext(
                        match_typed_subject_alt_names=[is_exactly(service)]
                    ),
                    validation_context_sds_secret_config=self._config(_AUTHORITY),
                ),
            )
        )
        return _socket(context)

    def _config(self, name: str) -> tls.SdsSecretConfig:
        source = core.ConfigSource(
            path_config_source=core.PathConfigSource(path=str(self._path(name))),
            resource_api_version=core.ApiVersion.V3,
        )
        return tls.SdsSecretConfig(name=name, sds_config=source)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _write(self, name: str, secret: tls.Secret) -> None:
        write(self._path(name), json.dumps({"resources": [{"@type": _TYPE, **secret.to_dict()}]}, indent=2) + "\n")


def _certificate(name: str, identity: Identity) -> tls.Secret:
    return tls.Secret(
        name=name,
        tls_certificate=tls.TlsCertificate(
            certificate_chain=core.DataSource(filename=str(identity.cert)),
            private_key=core.DataSource(filename=str(identity.key)),
            watched_directory=core.WatchedDirectory(path=str(identity.folder)),
        ),
    )


def _socket(context: betterproto2.Message) -> core.TransportSocket:
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))
