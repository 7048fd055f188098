"""The xDS resources of the services' own gRPC channels (`xds:///chat`), and the parts the edge's resources share.

Importing this takes a second: only the control plane does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.cluster import v3 as clusters
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoints
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any, Struct

from mesh.control.bootstrap import CERTIFICATE_PROVIDER
from mesh.control.contract import Method
from mesh.control.feed import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from mesh.control.picture import Endpoint, Picture, Service
from mesh.identity import names

# The user a call is for. All of a user's calls go to one instance of a version while that is running.
AFFINITY_HEADER: Final = "octopus-user"

# Fewest and most entries of the hash ring of a version's instances. The maximum also bounds how far a retry searches.
RING_SIZE: Final = (1024, 4096)

# Streams count as requests, and a conversation is one; the default limit of 1024 is too low.
_MAX_REQUESTS: Final = 50_000

_RETRIES: Final = 2

# Metadata of an endpoint that listens on a Unix domain socket, where TLS would protect nothing.
UNIX: Final = {"socket": "unix"}


def pack(message: betterproto2.Message) -> Any:
    """Return the message in an Any."""
    return Any.pack(message)


def resource(type_url: str, name: str, message: betterproto2.Message) -> Resource:
    """Return the message as a resource of the feed."""
    return Resource(type_url, name, bytes(message))


def cluster_name(service: str, version: str) -> str:
    """Return the name of the cluster of one version of a service, e.g. "chat-v1"."""
    return f"{service}-{version}"


def aggregate_name(service: str, version: str) -> str:
    """Return the name of Envoy's cluster of one version with the others behind it, e.g. "chat-v1-first"."""
    return f"{cluster_name(service, version)}-first"


def ads() -> core.ConfigSource:
    """Return the config source of resources on the same stream."""
    return core.ConfigSource(ads=core.AggregatedConfigSource(), resource_api_version=core.ApiVersion.V3)


def action(service: Service, *, sticky: bool = False, **settings: object) -> routes.RouteAction:
    """Return a route to the service: its versions by weight, each user's calls to the same instance of a version.

    With `sticky` a user's calls also stay with one version; Envoy can do that, gRPC cannot. A version whose instances
    cannot be reached is replaced by the others: for gRPC by the levels of its endpoints, for Envoy by an aggregate.
    """
    name = aggregate_name if sticky and len(service.versions) > 1 else cluster_name
    weighted = routes.WeightedCluster(
        clusters=[
            routes.WeightedClusterClusterWeight(name=name(service.name, version), weight=weight)
            for version, weight in service.weights.items()
        ],
        use_hash_policy=sticky or None,
    )
    by_user = routes.RouteActionHashPolicy(header=routes.RouteActionHashPolicyHeader(header_name=AFFINITY_HEADER))
    return routes.RouteAction(weighted_clusters=weighted, hash_policy=[by_user], **settings)  # type: ignore[arg-type]


def load_assignment(
    name: str,
    instances: Sequence[Endpoint],
    *,
    sockets: bool = False,
    otherwise: Iterable[Sequence[Endpoint]] = (),
) -> Resource:
    """Return where a cluster's instances listen; with `sockets`, their Unix domain sockets where they have one.

    While none of them can be reached, those of `otherwise` take the calls, the first ones first.
    """
    levels = [each for each in (instances, *otherwise) if each] if instances else []
    assignment = endpoints.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            endpoints.LocalityLbEndpoints(
                locality=core.Locality(zone=f"level-{priority}"),
                priority=priority,
                load_balancing_weight=1,
                lb_endpoints=[_on_socket(each) if sockets and each.socket else _on_port(each) for each in level],
            )
            for priority, level in enumerate(levels)
        ],
    )
    return resource(ENDPOINTS, name, assignment)


def _on_port(instance: Endpoint) -> endpoints.LbEndpoint:
    return endpoints.LbEndpoint(
        endpoint=endpoints.Endpoint(address=address(instance.host, instance.port)),
        load_balancing_weight=instance.weight,
    )


def _on_socket(instance: Endpoint) -> endpoints.LbEndpoint:
    return endpoints.LbEndpoint(
        endpoint=endpoints.Endpoint(address=core.Address(pipe=core.Pipe(path=instance.socket))),
        load_balancing_weight=instance.weight,
        metadata=core.Metadata(filter_metadata={"envoy.transport_socket_match": Struct.from_dict(UNIX)}),
    )


def address(host: str, port: int) -> core.Address:
    """Return a TCP address."""
    return core.Address(socket_address=core.SocketAddress(address=host, port_value=port))


def is_exactly(service: str) -> tls.SubjectAltNameMatcher:
    """Return a matcher for the service's SPIFFE id, so that no other member's certificate is accepted."""
    return tls.SubjectAltNameMatcher(
        san_type=tls.SubjectAltNameMatcherSanType.URI,
        matcher=matcher.StringMatcher(exact=names.spiffe_id(service)),
    )


def ring() -> clusters.ClusterRingHashLbConfig:
    """Return how instances are laid out for affinity, the same for Envoy and for gRPC."""
    smallest, largest = RING_SIZE
    return clusters.ClusterRingHashLbConfig(minimum_ring_size=smallest, maximum_ring_size=largest)


def circuit_breakers() -> clusters.CircuitBreakers:
    """Return the limits of concurrent requests from one client to one version of a service."""
    limits = clusters.CircuitBreakersThresholds(
        max_requests=_MAX_REQUESTS, max_connections=_MAX_REQUESTS, max_pending_requests=_MAX_REQUESTS, max_retries=64
    )
    return clusters.CircuitBreakers(thresholds=[limits])


def _outlier_detection() -> clusters.OutlierDetection:
    # gRPC counts every status but OK as a failure, so the bar is high: nearly everything fails, and others exist that
    # may do better. Ejections are short, for an instance that waits for its database is soon well again.
    return clusters.OutlierDetection(
        interval=timedelta(seconds=2),
        base_ejection_time=timedelta(seconds=3),
        max_ejection_time=timedelta(seconds=10),
        max_ejection_percent=50,
        enforcing_success_rate=0,
        failure_percentage_threshold=90,
        enforcing_failure_percentage=100,
        failure_percentage_minimum_hosts=2,
        failure_percentage_request_volume=20,
    )


def _retry_policy() -> routes.RetryPolicy:
    return routes.RetryPolicy(
        retry_on="unavailable",
        num_retries=_RETRIES,
        retry_back_off=routes.RetryPolicyRetryBackOff(
            base_interval=timedelta(milliseconds=25), max_interval=timedelta(milliseconds=250)
        ),
    )


def channel_resources(picture: Picture, methods: Iterable[Method]) -> list[Resource]:
    """Return the resources with which the services' own channels reach each service of the mesh."""
    by_service: dict[str, list[Method]] = {}
    for method in methods:
        by_service.setdefault(method.service, []).append(method)
    found = []
    for service in picture.services:
        if service.name in by_service:
            found += [_listener(service), _routes(service, by_service[service.name])]
            for version, instances in service.versions.items():
                others = [service.versions[other] for other in service.others(version)]
                found += [
                    _cluster(service, version),
                    load_assignment(cluster_name(service.name, version), instances, otherwise=others),
                ]
    return found


def _listener(service: Service) -> Resource:
    manager = hcm.HttpConnectionManager(
        rds=hcm.Rds(config_source=ads(), route_config_name=service.name),
        http_filters=[hcm.HttpFilter(name="router", typed_config=pack(router.Router()))],
    )
    listener = listeners.Listener(name=service.name, api_listener=listeners.ApiListener(api_listener=pack(manager)))
    return resource(LISTENER, service.name, listener)


def _routes(service: Service, methods: Sequence[Method]) -> Resource:
    retried = [
        routes.Route(
            match=routes.RouteMatch(path=method.path),
            route=action(service, retry_policy=_retry_policy(), timeout=timedelta()),
        )
        for method in methods
        if method.idempotent
    ]
    others = routes.Route(match=routes.RouteMatch(prefix=""), route=action(service, timeout=timedelta()))
    host = routes.VirtualHost(name=service.name, domains=["*"], routes=[*retried, others])
    return resource(ROUTES, service.name, routes.RouteConfiguration(name=service.name, virtual_hosts=[host]))


def _cluster(service: Service, version: str) -> Resource:
    name = cluster_name(service.name, version)
    provider = tls.CertificateProviderPluginInstance(instance_name=CERTIFICATE_PROVIDER)
    context = tls.UpstreamTlsContext(
        common_tls_context=tls.CommonTlsContext(
            tls_certificate_provider_instance=provider,
            validation_context=tls.CertificateValidationContext(
                ca_certificate_provider_instance=provider,
                # Deprecated, but of the two fields the only one that gRPC 1.85 reads; the other is ignored.
                match_subject_alt_names=[matcher.StringMatcher(exact=names.spiffe_id(service.name))],
            ),
        )
    )
    cluster = clusters.Cluster(
        name=name,
        type=clusters.ClusterDiscoveryType.EDS,
        eds_cluster_config=clusters.ClusterEdsClusterConfig(eds_config=ads(), service_name=name),
        lb_policy=clusters.ClusterLbPolicy.RING_HASH,
        ring_hash_lb_config=ring(),
        circuit_breakers=circuit_breakers(),
        outlier_detection=_outlier_detection(),
        transport_socket=core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context)),
    )
    return resource(CLUSTER, name, cluster)
