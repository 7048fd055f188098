import warnings

import pytest
from envoy_data_plane.envoy.config.cluster import v3 as clusters
from envoy_data_plane.envoy.config.route import v3 as routes

from mesh.control.contract import methods
from mesh.control.feed import CLUSTER, ROUTES, Resource
from mesh.control.picture import Painter
from mesh.control.resources import channel_resources
from mesh.identity import names

pytestmark = pytest.mark.unit

SERVICES = sorted(names.services())


@pytest.fixture
def resources() -> list[Resource]:
    """What every service's channels are told before anybody runs."""
    with warnings.catch_warnings():
        # gRPC reads a field that Envoy has deprecated; `_cluster` says why.
        warnings.simplefilter("ignore", DeprecationWarning)
        return channel_resources(Painter(names.services()).paint((), {}, None), methods())


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_limits_and_leaves_failing_instances_out(service: str, resources: list[Resource]) -> None:
    (found,) = [each for each in resources if (each.type_url, each.name) == (CLUSTER, f"{service}-v1")]
    cluster = clusters.Cluster.parse(found.value)
    assert cluster.circuit_breakers is not None
    (limits,) = cluster.circuit_breakers.thresholds
    # A conversation is a request that lasts an hour: the customary 1,024 would be a limit on shoppers.
    assert limits.max_requests is not None
    assert 10_000 <= limits.max_requests <= 100_000
    assert cluster.outlier_detection is not None
    assert cluster.outlier_detection.max_ejection_percent == 50
    assert cluster.lb_policy == clusters.ClusterLbPolicy.RING_HASH


@pytest.mark.parametrize("service", SERVICES)
def test_exactly_the_idempotent_methods_are_tried_again(service: str, resources: list[Resource]) -> None:
    (found,) = [each for each in resources if (each.type_url, each.name) == (ROUTES, service)]
    (host,) = routes.RouteConfiguration.parse(found.value).virtual_hosts
    retried = {
        each.match.path for each in host.routes if each.match and each.route and each.route.retry_policy is not None
    }
    assert retried == {method.path for method in methods() if method.service == service and method.idempotent}
    assert host.routes[-1].match == routes.RouteMatch(prefix="")
