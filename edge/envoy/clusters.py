"""Envoy's clusters: one for each version of each service, and the one that leads to the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from envoy_data_plane.envoy.config.cluster import v3 as clusters
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoints
from envoy_data_plane.envoy.extensions.clusters.aggregate import v3 as aggregates
from envoy_data_plane.envoy.extensions.transport_sockets.proxy_protocol import v3 as proxy_protocol
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer import v3 as raw_buffer
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.google.protobuf import Struct

from edge.envoy.certificates import Certificates
from mesh.control.feed import ENDPOINTS, Resource
from mesh.control.picture import Endpoint
from mesh.control.resources import UNIX, address, ads, circuit_breakers, pack, resource, ring

# The cluster of those who take connections as they are.
UNREAD: Final = "unread"

_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT: Final = timedelta(seconds=2)

# What one stream may have on the way to us while its reader is slow: that much, and no more, waits in Envoy.
_STREAM_WINDOW: Final = 64 * 1024
# All streams of a connection share this one, so slow readers must not be able to use it up.
_CONNECTION_WINDOW: Final = 128 * 1024 * 1024

# What one unread connection may keep waiting in Envoy for each side.
_UNREAD_BYTES: Final = 32 * 1024

# A server that has vanished without a word or is frozen loses its streams within 2 + 2.5 seconds, so that people are
# served elsewhere within 5. The answer comes from gRPC's own threads: a busy event loop does not hold it up.
_KEEPALIVE: Final = core.KeepaliveSettings(interval=timedelta(seconds=2), timeout=timedelta(seconds=2.5))


_HTTP2: Final = http.HttpProtocolOptionsExplicitHttpConfig(
    http2_protocol_options=core.Http2ProtocolOptions(
        initial_stream_window_size=_STREAM_WINDOW,
        initial_connection_window_size=_CONNECTION_WINDOW,
        connection_keepalive=_KEEPALIVE,
    )
)
_HTTP1: Final = http.HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=core.Http1ProtocolOptions())


def grpc_cluster(name: str, service: str, certificates: Certificates) -> clusters.Cluster:
    """Return the cluster of one version of a gRPC service."""
    return _discovered(name, certificates.upstream(service, "h2"), _HTTP2)


def web_cluster(name: str, service: str, certificates: Certificates) -> clusters.Cluster:
    """Return the cluster of a member that speaks HTTP/1.1: the bridge with its WebSockets, and the pages."""
    cluster = _discovered(name, certificates.upstream(service, "http/1.1"), _HTTP1)
    # A Unix domain socket guards itself. All others are met by TLS.
    cluster.transport_socket_matches = [
        clusters.ClusterTransportSocketMatch(name="unix", match=Struct.from_dict(UNIX), transport_socket=_plain())
    ]
    return cluster


def aggregate(name: str, members: Sequence[str], *, grpc: bool) -> clusters.Cluster:
    """Return a cluster of clusters: the first of them that has instances which can be reached takes the calls.

    A retry looks at the next one (see the retry policy in `routes`), so nobody waits until the registry has noticed.
    """
    options = http.HttpProtocolOptions(explicit_http_config=_HTTP2 if grpc else _HTTP1)
    return clusters.Cluster(
        name=name,
        cluster_type=clusters.ClusterCustomClusterType(
            name="envoy.clusters.aggregate",
            typed_config=pack(aggregates.ClusterConfig(clusters=list(members))),
        ),
        connect_timeout=_CONNECT,
        lb_policy=clusters.ClusterLbPolicy.CLUSTER_PROVIDED,
        circuit_breakers=circuit_breakers(),
        typed_extension_protocol_options={_OPTIONS: pack(options)},
    )


def unread_cluster() -> clusters.Cluster:
    """Return the cluster of the bridges on this machine; each connection begins with its client's address."""
    announced = proxy_protocol.ProxyProtocolUpstreamTransport(
        config=core.ProxyProtocolConfig(version=core.ProxyProtocolConfigVersion.V2), transport_socket=_plain()
    )
    # Who takes no connection is passed over at once: the last resort, Envoy's own HTTP, is always there.
    detection = _outlier_detection()
    detection.consecutive_local_origin_failure = 1
    detection.max_ejection_percent = 99
    return clusters.Cluster(
        name=UNREAD,
        type=clusters.ClusterDiscoveryType.EDS,
        eds_cluster_config=clusters.ClusterEdsClusterConfig(eds_config=ads(), service_name=UNREAD),
        connect_timeout=_CONNECT,
        per_connection_buffer_limit_bytes=_UNREAD_BYTES,
        circuit_breakers=circuit_breakers(),
        outlier_detection=detection,
        transport_socket=core.TransportSocket(
            name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=pack(announced)
        ),
    )


def unread_assignment(bridges: Iterable[Endpoint], http_socket: Path) -> Resource:
    """Return where connections go that are not read: to a bridge, or while there is none back to our own HTTP."""
    places = [[(each.socket, each.weight) for each in bridges if each.socket], [(str(http_socket), 1)]]
    assignment = endpoints.ClusterLoadAssignment(
        cluster_name=UNREAD,
        endpoints=[
            endpoints.LocalityLbEndpoints(
                locality=core.Locality(zone="local"),
                priority=priority,
                lb_endpoints=[
                    endpoints.LbEndpoint(
                        endpoint=endpoints.Endpoint(address=core.Address(pipe=core.Pipe(path=path))),
                        load_balancing_weight=weight,
                    )
                    for path, weight in found
                ],
            )
            for priority, found in enumerate(places)
        ],
    )
    return resource(ENDPOINTS, UNREAD, assignment)


def control_cluster(name: str, host: str, port: int, certificates: Certificates) -> clusters.Cluster:
    """Return the cluster of the control plane, which must stand in the bootstrap: all others come from there."""
    options = http.HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=core.Http2ProtocolOptions(
            connection_keepalive=core.KeepaliveSettings(interval=timedelta(seconds=15), timeout=timedelta(seconds=5))
        )
    )
    return clusters.Cluster(
        name=name,
        type=clusters.ClusterDiscoveryType.STRICT_DNS,
        dns_lookup_family=clusters.ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=_CONNECT,
        load_assignment=static(name, address(host, port)),
        transport_socket=certificates.upstream("control", "h2"),
        typed_extension_protocol_options={_OPTIONS: pack(http.HttpProtocolOptions(explicit_http_config=options))},
    )


def static(name: str, where: core.Address) -> endpoints.ClusterLoadAssignment:
    """Return the one endpoint of a cluster that never changes."""
    endpoint = endpoints.LbEndpoint(endpoint=endpoints.Endpoint(address=where))
    return endpoints.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoints.LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )


def _plain() -> core.TransportSocket:
    return core.TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=pack(raw_buffer.RawBuffer()))


def _discovered(
    name: str, socket: core.TransportSocket, options: http.HttpProtocolOptionsExplicitHttpConfig
) -> clusters.Cluster:
    return clusters.Cluster(
        name=name,
        type=clusters.ClusterDiscoveryType.EDS,
        eds_cluster_config=clusters.ClusterEdsClusterConfig(eds_config=ads(), service_name=name),
        connect_timeout=_CONNECT,
        lb_policy=clusters.ClusterLbPolicy.RING_HASH,
        ring_hash_lb_config=ring(),
        circuit_breakers=circuit_breakers(),
        outlier_detection=_outlier_detection(),
        transport_socket=socket,
        typed_extension_protocol_options={_OPTIONS: pack(http.HttpProtocolOptions(explicit_http_config=options))},
    )


def _outlier_detection() -> clusters.OutlierDetection:
    # An instance that cannot be reached is left out at once; one that answers UNAVAILABLE ten times running may only be
    # waiting for its database, and comes back soon.
    return clusters.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=3,
        enforcing_consecutive_local_origin_failure=100,
        consecutive_gateway_failure=10,
        enforcing_consecutive_gateway_failure=100,
        enforcing_consecutive_5xx=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=timedelta(seconds=1),
        base_ejection_time=timedelta(seconds=3),
        max_ejection_time=timedelta(seconds=10),
        max_ejection_percent=50,
    )
