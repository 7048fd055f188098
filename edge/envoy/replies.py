"""What Envoy answers itself, in the words of the contract: a refused token is told with its reason, as by a service."""

from __future__ import annotations

import base64
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from octopus.errors.v1 import errors_pb2

from mesh.control.resources import pack
from mesh.errors import Refused, to_status

# The token filter's own names for what went wrong, in the order they are tried; the last is any other failure.
_REFUSALS: Final = (
    (
        "jwt_authn_access_denied{Jwt_is_missing",
        Refused(errors_pb2.REASON_TOKEN_MISSING, "the call needs an access token in the authorization header"),
    ),
    (
        "jwt_authn_access_denied{Jwt_is_expired",
        Refused(errors_pb2.REASON_TOKEN_EXPIRED, "the access token has expired; refresh it"),
    ),
    (
        "jwt_authn_access_denied",
        Refused(errors_pb2.REASON_TOKEN_INVALID, "the access token is not valid; log in again"),
    ),
)
_UNAUTHORIZED: Final = 401


def local_replies() -> hcm.LocalReplyConfig:
    """Returns how Envoy words its own replies. gRPC takes its status from the HTTP code, and its text from the body."""
    return hcm.LocalReplyConfig(mappers=[_mapper(details, refused) for details, refused in _REFUSALS])


def _mapper(details: str, refused: Refused) -> hcm.ResponseMapper:
    denied = cel.ExpressionFilter(expression=f"response.code_details.startsWith('{details}')")
    status = base64.b64encode(to_status(refused).SerializeToString()).decode().rstrip("=")
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(
            extension_filter=accesslog.ExtensionFilter(
                name="envoy.access_loggers.extension_filters.cel", typed_config=pack(denied)
            )
        ),
        status_code=_UNAUTHORIZED,
        body=core.DataSource(inline_string=refused.description),
        headers_to_add=[
            core.HeaderValueOption(header=core.HeaderValue(key="grpc-status-details-bin", value=status)),
        ],
    )
