"""The resources that the control plane serves to Envoy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

from edge.envoy import clusters, filters, limits, listener
from edge.envoy.certificates import Certificates
from edge.envoy.config import EdgeConfig
from edge.envoy.routes import BRIDGE, PAGES, SHOPS, route_table
from edge.reflection import contract as reflection
from mesh.control.contract import Method
from mesh.control.feed import CLUSTER, EXTENSION, LISTENER, ROUTES, Resource
from mesh.control.picture import Endpoint, Picture, Service
from mesh.control.resources import aggregate_name, cluster_name, load_assignment, pack, resource
from mesh.identity.files import Identity


def certificates(config: EdgeConfig) -> Certificates:
    """Return where Envoy's certificates lie."""
    return Certificates(
        config.envoy_folder, Identity(config.identity, "edge"), Identity(config.public_folder, config.public_name)
    )


def edge_resources(config: EdgeConfig, methods: Iterable[Method]) -> Callable[[Picture], list[Resource]]:
    """Return what makes Envoy's resources from a picture of the mesh."""
    methods = (*methods, *reflection.routes())
    served = {method.service for method in methods}
    files = certificates(config)
    # A proxy before Envoy says in HTTP where its clients are.
    http_socket = None if config.trusted_proxies else config.http_socket

    def make(picture: Picture) -> list[Resource]:
        found = [
            resource(
                LISTENER,
                listener.NAME,
                listener.listener(
                    config.edge_host,
                    config.edge_port,
                    files,
                    manager=_http(config),
                    connections=limits.connections(config.connections_per_second, config.connections_at_once),
                    access_log=config.access_log,
                    unread=http_socket is not None,
                ),
            ),
            resource(ROUTES, listener.NAME, route_table(listener.NAME, picture, methods, config.allowed_origins)),
            resource(
                EXTENSION,
                filters.TOKENS,
                core.TypedExtensionConfig(
                    name=filters.TOKENS, typed_config=pack(filters.token_check(picture.jwks, methods))
                ),
            ),
        ]
        if http_socket is not None:
            bridges = [each for service in picture.services if service.name == BRIDGE for each in _endpoints(service)]
            handed_over = listener.handed_over(http_socket, config.edge_port, manager=_http(config))
            found += [
                resource(LISTENER, listener.HANDED_OVER, handed_over),
                resource(CLUSTER, clusters.UNREAD, clusters.unread_cluster()),
                clusters.unread_assignment(bridges, http_socket),
            ]
        for service in picture.services:
            if service.name not in served and service.name not in (BRIDGE, PAGES, SHOPS):
                continue
            make_cluster = clusters.grpc_cluster if service.name in served else clusters.web_cluster
            for version, instances in service.versions.items():
                name = cluster_name(service.name, version)
                found.append(resource(CLUSTER, name, make_cluster(name, service.name, files)))
                found.append(load_assignment(name, instances, sockets=service.name not in served))
                if len(service.versions) > 1:
                    members = [cluster_name(service.name, each) for each in (version, *service.others(version))]
                    name = aggregate_name(service.name, version)
                    cluster = clusters.aggregate(name, members, grpc=service.name in served)
                    found.append(resource(CLUSTER, name, cluster))
        return found

    return make


def _http(config: EdgeConfig) -> hcm.HttpConnectionManager:
    return listener.http(
        tokens=filters.tokens_by_discovery(),
        table=listener.NAME,
        limiter=limits.limiter(config),
        access_log=config.access_log,
        trusted_proxies=config.trusted_proxies,
    )


def _endpoints(service: Service) -> list[Endpoint]:
    """Return all instances, each weighed by its own share and its version's."""
    return [
        dataclasses.replace(each, weight=max(1, each.weight * share // 100))
        for version, share in service.weights.items()
        for each in service.versions[version]
    ]
