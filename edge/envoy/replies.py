"""Envoy's own replies, with the contract's error details: a refused token has its reason, as from a service."""

from __future__ import annotations

import base64
import urllib.parse
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from octopus.errors.v1 import errors_pb2

from edge.envoy.limits import RETRY_AFTER_S
from mesh.control.resources import pack
from mesh.errors import Refused, to_status

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429

_LIMITED: Final = "local_rate_limited"
_TOO_MANY_CALLS: Final = Refused(
    errors_pb2.REASON_RATE_LIMITED,
    f"too many calls from your address; try again after {RETRY_AFTER_S:.0f} s",
    retry_after=RETRY_AFTER_S,
)
# The same for people who meet it in a browser's window.
_TOO_MANY_CALLS_ZH: Final = f"您的网络地址请求过于频繁，请在 {RETRY_AFTER_S:.0f} 秒后重试"

# What the token filter calls what went wrong, in the order they are tried; the last is any other failure.
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


def local_replies() -> hcm.LocalReplyConfig:
    """Return how Envoy words its own replies. gRPC takes its status from the HTTP code, and its text from the body."""
    return hcm.LocalReplyConfig(
        mappers=[
            *(_mapper(_failed(details), refused, _UNAUTHORIZED) for details, refused in _REFUSALS),
            _limited_grpc_web(),
            _mapper(_limited("application/grpc"), _TOO_MANY_CALLS, _TOO_MANY),
            _mapper(_failed(_LIMITED), _TOO_MANY_CALLS, _TOO_MANY, also=_TOO_MANY_CALLS_ZH),
        ]
    )


def _limited_grpc_web() -> hcm.ResponseMapper:
    """Refuse a gRPC-Web call that was too many, as the protocol does: HTTP 200, and the status in the headers."""
    mapper = _mapper(_limited("application/grpc-web"), _TOO_MANY_CALLS, _OK)
    status = str(_TOO_MANY_CALLS.code.value[0])
    mapper.headers_to_add += _headers(
        ("grpc-status", status),
        ("grpc-message", urllib.parse.quote(_TOO_MANY_CALLS.description, safe=" ;")),
        ("content-type", "application/grpc-web+proto"),
    )
    mapper.body = core.DataSource(inline_string="")
    return mapper


def _failed(details: str) -> str:
    return f"response.code_details.startsWith('{details}')"


def _limited(content: str) -> str:
    return f"{_failed(_LIMITED)} && request.headers['content-type'].startsWith('{content}')"


def _mapper(condition: str, refused: Refused, code: int, *, also: str = "") -> hcm.ResponseMapper:
    status = base64.b64encode(to_status(refused).SerializeToString()).decode().rstrip("=")
    told = [("grpc-status-details-bin", status)]
    if refused.retry_after is not None:
        told.append(("retry-after", f"{refused.retry_after:.0f}"))
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(
            extension_filter=accesslog.ExtensionFilter(
                name="envoy.access_loggers.extension_filters.cel",
                typed_config=pack(cel.ExpressionFilter(expression=condition)),
            )
        ),
        status_code=code,
        body=core.DataSource(inline_string=" / ".join(filter(None, (refused.description, also)))),
        headers_to_add=_headers(*told),
    )


def _headers(*pairs: tuple[str, str]) -> list[core.HeaderValueOption]:
    return [
        core.HeaderValueOption(
            header=core.HeaderValue(key=key, value=value),
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for key, value in pairs
    ]
