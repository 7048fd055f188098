"""Envoy's listener for the world outside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.access_loggers.file import v3 as file_log
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream_log
from envoy_data_plane.envoy.extensions.filters.listener.proxy_protocol import v3 as proxy_protocol
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector import v3 as tls_inspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy import v3 as tcp_proxy
from envoy_data_plane.google.protobuf import Struct

from edge.envoy import filters
from edge.envoy.certificates import Certificates
from edge.envoy.clusters import UNREAD
from edge.envoy.replies import local_replies
from edge.envoy.routes import STREAM_IDLE, STREAM_LIFE
from mesh.control.resources import address, ads, pack

NAME: Final = "edge"
# The listener for what bridges hand over.
HANDED_OVER: Final = "edge-handed-over"

# What one connection may keep waiting in Envoy on each side, so that thousands of idle ones cost little.
_CONNECTION_BYTES: Final = 32 * 1024
_STREAM_WINDOW: Final = 64 * 1024
_CONNECTION_WINDOW: Final = 256 * 1024

# A connection without a request is closed after this.
_IDLE: Final = timedelta(minutes=5)

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
# Of a connection that goes to a bridge unread.
_UNREAD_LOG_FIELDS: Final = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "edge connection",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%CONNECTION_TERMINATION_DETAILS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
}


def listener(
    host: str,
    port: int,
    certificates: Certificates,
    *,
    manager: hcm.HttpConnectionManager,
    connections: listeners.ListenerFilter,
    access_log: Path | None,
    unread: bool = False,
) -> listeners.Listener:
    """Return the listener for the world outside; `manager` is `http`, `connections` what limits their rate.

    With `unread` only HTTP/2 is read here. Other connections are decrypted and go to a bridge as they are: a WebSocket
    that passes HTTP holds 34 KiB more.
    """
    chains = [_chain(NAME, certificates.downstream(), _http_filter(manager))]
    inspectors = [connections]
    if unread:
        chains[0].filter_chain_match = listeners.FilterChainMatch(application_protocols=["h2"])
        chains.append(_chain(UNREAD, certificates.downstream("http/1.1"), _unread_filter(access_log)))
        inspectors.append(
            listeners.ListenerFilter(
                name="envoy.filters.listener.tls_inspector", typed_config=pack(tls_inspector.TlsInspector())
            )
        )
    return listeners.Listener(
        name=NAME,
        address=address(host, port),
        per_connection_buffer_limit_bytes=_CONNECTION_BYTES,
        tcp_keepalive=_PROBES,
        # Between two handshakes of many who connect at once, those who are connected get their turn.
        max_connections_to_accept_per_socket_event=1,
        listener_filters=inspectors,
        filter_chains=chains,
    )


def handed_over(path: Path, port: int, *, manager: hcm.HttpConnectionManager) -> listeners.Listener:
    """Return the listener for what bridges hand over; `port` is the one to which the clients connected.

    Only this user may open the socket, so it is believed where a client is.
    """
    # The client spoke TLS.
    manager.scheme_header_transformation = core.SchemeHeaderTransformation(scheme_to_overwrite="https")
    manager.forward_proto_config = hcm.ForwardProtoConfig(https_destination_ports=[port])
    return listeners.Listener(
        name=HANDED_OVER,
        address=core.Address(pipe=core.Pipe(path=str(path), mode=0o600)),
        per_connection_buffer_limit_bytes=_CONNECTION_BYTES,
        # They were counted when they came from outside.
        ignore_global_conn_limit=True,
        listener_filters=[
            listeners.ListenerFilter(
                name="envoy.filters.listener.proxy_protocol",
                typed_config=pack(
                    proxy_protocol.ProxyProtocol(disallowed_versions=[core.ProxyProtocolConfigVersion.V1])
                ),
            )
        ],
        filter_chains=[listeners.FilterChain(name=HANDED_OVER, filters=[_http_filter(manager)])],
    )


def http(
    *,
    tokens: hcm.HttpFilter,
    table: routes.RouteConfiguration | str,
    limiter: hcm.HttpFilter,
    access_log: Path | None,
    trusted_proxies: int = 0,
) -> hcm.HttpConnectionManager:
    """Return how HTTP is read; `table` is the routes, or the name by which Envoy asks for them."""
    manager = hcm.HttpConnectionManager(
        stat_prefix=NAME,
        http_filters=filters.chain(limiter, tokens),
        early_header_mutation_extensions=[filters.wash(trusted_proxies=trusted_proxies)],
        access_log=[_access_log(access_log, _LOG_FIELDS)],
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
            idle_timeout=_IDLE,
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
    return manager


def _chain(name: str, socket: core.TransportSocket, what: listeners.Filter) -> listeners.FilterChain:
    return listeners.FilterChain(
        name=name,
        transport_socket=socket,
        transport_socket_connect_timeout=timedelta(seconds=10),
        filters=[what],
    )


def _http_filter(manager: hcm.HttpConnectionManager) -> listeners.Filter:
    return listeners.Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))


def _unread_filter(access_log: Path | None) -> listeners.Filter:
    proxy = tcp_proxy.TcpProxy(
        stat_prefix=UNREAD,
        cluster=UNREAD,
        access_log=[_access_log(access_log, _UNREAD_LOG_FIELDS)],
        idle_timeout=_IDLE,
        max_downstream_connection_duration=STREAM_LIFE,
        # Those that failed are ejected meanwhile.
        max_connect_attempts=4,
        backoff_options=core.BackoffStrategy(
            base_interval=timedelta(milliseconds=100), max_interval=timedelta(milliseconds=500)
        ),
    )
    return listeners.Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def _access_log(path: Path | None, fields: Mapping[str, str]) -> accesslog.AccessLog:
    log_format = core.SubstitutionFormatString(json_format=Struct.from_dict({**fields}), omit_empty_values=True)
    if path is None:
        return accesslog.AccessLog(
            name="envoy.access_loggers.stdout", typed_config=pack(stream_log.StdoutAccessLog(log_format=log_format))
        )
    return accesslog.AccessLog(
        name="envoy.access_loggers.file",
        typed_config=pack(file_log.FileAccessLog(path=str(path), log_format=log_format)),
    )
