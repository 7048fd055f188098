import pytest
from octopus.mesh.v1 import registry_pb2

from mesh.control.picture import Endpoint, Painter, Service
from mesh.control.split import SplitError, complete

pytestmark = pytest.mark.unit


def instance(version: str, port: int, health: int = registry_pb2.HEALTH_SERVING) -> registry_pb2.Instance:
    return registry_pb2.Instance(
        service="chat",
        instance_id=f"chat-{port}",
        version=version,
        host="127.0.0.1",
        port=port,
        weight=100,
        health=registry_pb2.Health.ValueType(health),
    )


def chat(painter: Painter, *instances: registry_pb2.Instance, **percent: int) -> Service:
    (service,) = painter.paint(instances, {"chat": percent} if percent else {}, None).services
    return service


def test_without_a_split_each_instance_gets_the_same() -> None:
    service = chat(Painter(("chat",)), instance("v1", 1), instance("v1", 2), instance("v2", 3))
    assert dict(service.weights) == {"v1": 200, "v2": 100}


def test_a_split_counts_by_version_and_one_that_is_not_named_gets_nothing() -> None:
    service = chat(Painter(("chat",)), instance("v1", 1), instance("v2", 2), instance("v3", 3), v1=90, v2=10)
    assert dict(service.weights) == {"v1": 90, "v2": 10}


def test_a_version_that_left_passes_its_share_on_and_its_cluster_stays_empty() -> None:
    painter = Painter(("chat",))
    chat(painter, instance("v1", 1), instance("v2", 2), v1=90, v2=10)
    service = chat(painter, instance("v1", 1), v1=90, v2=10)
    assert dict(service.weights) == {"v1": 90}
    assert dict(service.versions) == {"v1": (Endpoint("127.0.0.1", 1, 100),), "v2": ()}


def test_when_no_version_of_the_split_runs_the_others_take_over() -> None:
    assert dict(chat(Painter(("chat",)), instance("v1", 1), v2=100).weights) == {"v1": 100}


def test_who_drains_gets_no_calls() -> None:
    service = chat(Painter(("chat",)), instance("v1", 1), instance("v1", 2, registry_pb2.HEALTH_DRAINING))
    assert service.versions["v1"] == (Endpoint("127.0.0.1", 1, 100),)


def test_a_service_that_never_ran_still_has_somewhere_to_fail() -> None:
    service = chat(Painter(("chat",)))
    assert (dict(service.versions), dict(service.weights)) == ({"v1": ()}, {"v1": 1})


@pytest.mark.parametrize(
    ("percent", "running", "whole"),
    [
        ({"v2": 10}, {"v1", "v2"}, {"v1": 90, "v2": 10}),
        ({"v3": 10}, {"v1", "v2", "v3"}, {"v1": 45, "v2": 45, "v3": 10}),
        ({"v3": 1}, {"v1", "v2", "v3"}, {"v1": 50, "v2": 49, "v3": 1}),
        ({"v1": 0, "v2": 100}, {"v1", "v2"}, {"v1": 0, "v2": 100}),
    ],
)
def test_the_rest_goes_to_the_other_versions(percent: dict[str, int], running: set[str], whole: dict[str, int]) -> None:
    assert complete(percent, running) == whole


@pytest.mark.parametrize(
    ("percent", "running", "problem"),
    [
        ({"v1": 60, "v2": 50}, {"v1", "v2"}, "110"),
        ({"v9": 10}, {"v1"}, "no instance of v9 runs"),
        ({"v1": 10}, {"v1"}, "90 % are not assigned"),
        ({"v1": 100}, set[str](), "no instance of this service"),
    ],
)
def test_a_split_that_cannot_be_is_refused(percent: dict[str, int], running: set[str], problem: str) -> None:
    with pytest.raises(SplitError, match=problem):
        complete(percent, running)
