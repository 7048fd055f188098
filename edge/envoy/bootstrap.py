"""Envoy's bootstrap: what it needs to connect to the control plane."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Final

from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as clusters
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import v3 as downstream_connections
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap import v3 as fixed_heap
from envoy_data_plane.google.protobuf import Struct

from edge.envoy.clusters import control_cluster, static
from edge.envoy.config import EdgeConfig
from edge.envoy.listener import NAME
from edge.envoy.resources import certificates
from mesh.atomic_file import write
from mesh.control.resources import address, ads, pack

FILE: Final = "envoy.json"

_CONTROL: Final = "control"
_ADMIN: Final = "admin"


def bootstrap_file(folder: Path) -> Path:
    """Return where `prepare` puts Envoy's configuration."""
    return folder / FILE


def prepare(config: EdgeConfig) -> Path:
    """Write all that Envoy reads at its start into `config.envoy_folder`, and return the file to start it with."""
    certificates(config).write()
    path = bootstrap_file(config.envoy_folder)
    write(path, json.dumps(render(config).to_dict(), indent=2) + "\n")
    return path


def render(config: EdgeConfig) -> bootstrap.Bootstrap:
    """Return the bootstrap: the way to the control plane, limits, and the doors for the machine's owner."""
    return bootstrap.Bootstrap(
        node=core.Node(id="edge", cluster="edge"),
        # A socket in a folder of the owner, not a port: whoever reaches the admin interface can stop Envoy.
        admin=bootstrap.Admin(address=_admin_address(config)),
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=[_metrics_listener(config.edge_metrics_host, config.edge_metrics_port)],
            clusters=[
                control_cluster(_CONTROL, config.reached_at, config.port, certificates(config)),
                clusters.Cluster(
                    name=_ADMIN,
                    type=clusters.ClusterDiscoveryType.STATIC,
                    load_assignment=static(_ADMIN, _admin_address(config)),
                ),
            ],
        ),
        dynamic_resources=bootstrap.BootstrapDynamicResources(
            ads_config=_ads_stream(), lds_config=ads(), cds_config=ads()
        ),
        overload_manager=_overload_manager(config),
        layered_runtime=bootstrap.LayeredRuntime(
            layers=[
                bootstrap.RuntimeLayer(
                    name="limits",
                    static_layer=Struct.from_dict(
                        {f"envoy.resource_limits.listener.{NAME}.connection_limit": config.max_connections}
                    ),
                )
            ]
        ),
    )


def _admin_address(config: EdgeConfig) -> core.Address:
    return core.Address(pipe=core.Pipe(path=str(config.envoy_folder / "admin.sock"), mode=0o600))


def _ads_stream() -> core.ApiConfigSource:
    envoy_grpc = core.GrpcServiceEnvoyGrpc(
        cluster_name=_CONTROL,
        # By default the pauses grow to half a minute, and so would a mesh that was just healed stay as it was.
        retry_policy=core.RetryPolicy(
            retry_back_off=core.BackoffStrategy(
                base_interval=timedelta(milliseconds=250), max_interval=timedelta(seconds=3)
            )
        ),
    )
    return core.ApiConfigSource(
        api_type=core.ApiConfigSourceApiType.GRPC,
        transport_api_version=core.ApiVersion.V3,
        grpc_services=[core.GrpcService(envoy_grpc=envoy_grpc)],
        set_node_on_first_message_only=True,
    )


def _metrics_listener(host: str, port: int) -> listeners.Listener:
    """Let the loopback interface read what the admin interface shows to anyone harmlessly: counters and readiness."""
    table = routes.RouteConfiguration(
        name="metrics",
        virtual_hosts=[
            routes.VirtualHost(
                name="metrics",
                domains=["*"],
                routes=[
                    routes.Route(
                        match=routes.RouteMatch(path=path),
                        route=routes.RouteAction(cluster=_ADMIN, prefix_rewrite=admin_path),
                    )
                    for path, admin_path in (("/metrics", "/stats/prometheus"), ("/ready", "/ready"))
                ],
            )
        ],
    )
    manager = hcm.HttpConnectionManager(
        stat_prefix="metrics",
        route_config=table,
        http_filters=[hcm.HttpFilter(name="envoy.filters.http.router", typed_config=pack(router.Router()))],
    )
    return listeners.Listener(
        name="metrics",
        address=address(host, port),
        # It must answer just when there are too many connections.
        ignore_global_conn_limit=True,
        bypass_overload_manager=True,
        filter_chains=[
            listeners.FilterChain(
                filters=[
                    listeners.Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))
                ]
            )
        ],
    )


def _overload_manager(config: EdgeConfig) -> overload.OverloadManager:
    heap, connections = (
        "envoy.resource_monitors.fixed_heap",
        "envoy.resource_monitors.global_downstream_max_connections",
    )

    def at(share: float) -> list[overload.Trigger]:
        return [overload.Trigger(name=heap, threshold=overload.ThresholdTrigger(value=share))]

    return overload.OverloadManager(
        refresh_interval=timedelta(seconds=1),
        resource_monitors=[
            overload.ResourceMonitor(
                name=heap,
                typed_config=pack(fixed_heap.FixedHeapConfig(max_heap_size_bytes=config.max_heap_mb * 1024 * 1024)),
            ),
            overload.ResourceMonitor(
                name=connections,
                typed_config=pack(
                    downstream_connections.DownstreamConnectionsConfig(
                        max_active_downstream_connections=config.max_connections
                    )
                ),
            ),
        ],
        actions=[
            overload.OverloadAction(name="envoy.overload_actions.shrink_heap", triggers=at(0.85)),
            overload.OverloadAction(name="envoy.overload_actions.disable_http_keepalive", triggers=at(0.92)),
            overload.OverloadAction(name="envoy.overload_actions.stop_accepting_connections", triggers=at(0.95)),
        ],
    )
