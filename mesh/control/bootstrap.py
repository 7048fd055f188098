"""The bootstrap of gRPC's own xDS client: the address of the control plane, and the certificates to use."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from mesh.identity.files import Identity

# The name under which clusters refer to the member's own certificate and the mesh's authority.
CERTIFICATE_PROVIDER: Final = "mesh"

# How often gRPC checks whether the files were replaced, in seconds.
REFRESH_S: Final = 10

# The variable grpcio reads, once per process.
VARIABLE: Final = "GRPC_XDS_BOOTSTRAP_CONFIG"


def grpc_bootstrap(*, xds: str, identity: Path, name: str, instance: str, refresh_s: int = REFRESH_S) -> dict[str, Any]:
    """Return the bootstrap of one member.

    `xds` is the control plane's address, host:port; its certificate must name that host. `identity` is the folder of
    certificates, read every `refresh_s` seconds, `name` the member's name, and `instance` the client's name in the
    control plane's log.
    """
    own = Identity(identity, name)
    files = {
        "certificate_file": str(own.cert),
        "private_key_file": str(own.key),
        "ca_certificate_file": str(own.ca),
        "refresh_interval": f"{refresh_s}s",
    }
    return {
        "xds_servers": [
            {
                "server_uri": xds,
                "channel_creds": [{"type": "tls", "config": files}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": instance, "cluster": name},
        "certificate_providers": {CERTIFICATE_PROVIDER: {"plugin_name": "file_watcher", "config": files}},
    }


def install(*, xds: str, identity: Path, name: str, instance: str, refresh_s: int = REFRESH_S) -> None:
    """Make this process an xDS client. Call it before the first `xds:///` channel: grpcio reads the bootstrap once."""
    os.environ[VARIABLE] = json.dumps(
        grpc_bootstrap(xds=xds, identity=identity, name=name, instance=instance, refresh_s=refresh_s)
    )
