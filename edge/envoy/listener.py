"""Envoy's listener for the world outside."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.access_loggers.file import v3 as file_log
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream_log
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Struct

from edge.envoy import filters
from edge.envoy.certificates import Certificates
from edge.envoy.replies import local_replies
from edge.envoy.routes import STREAM_IDLE, STREAM_LIFE
from mesh.control.resources import address, ads, pack

NAME: Final = "edge"

# What one connection may keep waiting in Envoy on each side, so that thousands of idle ones cost little.
_CONNECTION_BYTES: Final = 32 * 1024
_STREAM_WINDOW: Final = 64 * 1024
_CONNECTION_WINDOW: Final = 256 * 1024

# A client that vanished without a word is noticed within 20 + 10 seconds over HTTP/2, and by TCP within 20 + 3 * 5.
_PING: Final = core.KeepaliveSettings(interval=timedelta(seconds=20), timeout=timedelta(seconds=10))
_PROBES: Final = core.TcpKeepalive(keepalive_time=20, keepalive_interval=5, keepalive_probes=3)

# No address, no user, no query and no header that could hold a token: this is about calls, not about people.
_LOG_FIELDS: Final = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "edge request",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH)%",
    "protocol": "%PROTOCOL%",
    "code": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
}


def listener(
    host: str,
    port: int,
    certificates: Certificates,
    *,
    tokens: hcm.HttpFilter,
    table: routes.RouteConfiguration | str,
    limiter: hcm.HttpFilter,
    connections: listeners.ListenerFilter,
    access_log: Path | None,
    trusted_proxies: int = 0,
) -> listeners.Listener:
    """Return the listener; `table` is the routes, or the name by which Envoy asks for them."""
    manager = hcm.HttpConnectionManager(
        stat_prefix=NAME,
        http_filters=filters.chain(limiter, tokens),
        early_header_mutation_extensions=[filters.wash(trusted_proxies=trusted_proxies)],
        access_log=[_access_log(access_log)],
        local_reply_config=local_replies(),
        # Nobody outside is trusted, not even from a loopback or private address.
        use_remote_address=True,
        internal_address_config=hcm.HttpConnectionManagerInternalAddressConfig(
            cidr_ranges=[core.CidrRange(address_prefix="255.255.255.255", prefix_len=32)]
        ),
        xff_num_trusted_hops=trusted_proxies,
        skip_xff_append=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=hcm.HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        max_request_headers_kb=16,
        request_headers_timeout=timedelta(seconds=10),
        stream_idle_timeout=STREAM_IDLE,
        delayed_close_timeout=timedelta(seconds=1),
        upgrade_configs=[hcm.HttpConnectionManagerUpgradeConfig(upgrade_type="websocket", enabled=False)],
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=timedelta(minutes=5),
            max_headers_count=64,
            max_stream_duration=STREAM_LIFE,
            headers_with_underscores_action=core.HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
        ),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=100,
            initial_stream_window_size=_STREAM_WINDOW,
            initial_connection_window_size=_CONNECTION_WINDOW,
            connection_keepalive=_PING,
        ),
    )
    if isinstance(table, str):
        manager.rds = hcm.Rds(config_source=ads(), route_config_name=table)
    else:
        manager.route_config = table
    return listeners.Listener(
        name=NAME,
        address=address(host, port),
        per_connection_buffer_limit_bytes=_CONNECTION_BYTES,
        tcp_keepalive=_PROBES,
        # Between two handshakes of many who connect at once, those who are connected get their turn.
        max_connections_to_accept_per_socket_event=1,
        listener_filters=[connections],
        filter_chains=[
            listeners.FilterChain(
                transport_socket=certificates.downstream(),
                transport_socket_connect_timeout=timedelta(seconds=10),
                filters=[
                    listeners.Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))
                ],
            )
        ],
    )


def _access_log(path: Path | None) -> accesslog.AccessLog:
    log_format = core.SubstitutionFormatString(json_format=Struct.from_dict(_LOG_FIELDS), omit_empty_values=True)
    if path is None:
        return accesslog.AccessLog(
            name="envoy.access_loggers.stdout", typed_config=pack(stream_log.StdoutAccessLog(log_format=log_format))
        )
    return accesslog.AccessLog(
        name="envoy.access_loggers.file",
        typed_config=pack(file_log.FileAccessLog(path=str(path), log_format=log_format)),
    )
