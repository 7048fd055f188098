from collections.abc import Iterable

import pytest

from mesh.control.feed import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Feed, Resource, Snapshot
from mesh.control.stream import Request, Response, Stream

pytestmark = pytest.mark.unit


class Clients:
    """A feed and one stream of it."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.stream = Stream("test")
        self.contents: dict[tuple[str, str], str] = {}

    def publish(self, *resources: tuple[str, str, str]) -> list[Response]:
        for type_url, name, value in resources:
            self.contents[type_url, name] = value
        return self.republish()

    def withdraw(self, type_url: str, name: str) -> list[Response]:
        del self.contents[type_url, name]
        return self.republish()

    def republish(self) -> list[Response]:
        self.feed.publish(Resource(type_url, name, value.encode()) for (type_url, name), value in self.contents.items())
        return self.stream.news(self.feed.snapshot)

    def ask(self, type_url: str, *names: str) -> list[Response]:
        return self.stream.heard(Request(type_url, names), self.feed.snapshot)

    def answer(self, response: Response, *names: str, error: str = "") -> list[Response]:
        request = Request(response.type_url, names, response.nonce, response.version, error)
        return self.stream.heard(request, self.feed.snapshot)


def told(responses: Iterable[Response]) -> list[tuple[str, dict[str, str]]]:
    return [
        (each.type_url, {resource.name: resource.value.decode() for resource in each.resources}) for each in responses
    ]


def test_nothing_is_said_before_the_first_snapshot_and_everything_asked_for_after_it() -> None:
    client = Clients()
    assert client.ask(ENDPOINTS, "chat-v1") == []
    assert told(client.publish((ENDPOINTS, "chat-v1", "a"), (ENDPOINTS, "bot-v1", "b"))) == [
        (ENDPOINTS, {"chat-v1": "a"})
    ]


def test_only_what_changed_is_sent_and_only_after_an_answer() -> None:
    client = Clients()
    client.publish((ENDPOINTS, "chat-v1", "a"), (ENDPOINTS, "bot-v1", "b"))
    (first,) = client.ask(ENDPOINTS, "chat-v1", "bot-v1")
    assert client.publish((ENDPOINTS, "chat-v1", "a2")) == []
    (second,) = client.answer(first, "chat-v1", "bot-v1")
    assert told([second]) == [(ENDPOINTS, {"chat-v1": "a2"})]
    assert client.answer(second, "chat-v1", "bot-v1") == []
    assert client.republish() == []


def test_a_refused_response_is_not_repeated_until_it_changes() -> None:
    client = Clients()
    client.publish((ROUTES, "chat", "bad"))
    (first,) = client.ask(ROUTES, "chat")
    assert client.answer(first, "chat", error="no such cluster") == []
    assert client.republish() == []
    assert told(client.publish((ROUTES, "chat", "good"))) == [(ROUTES, {"chat": "good"})]


def test_an_answer_to_an_older_response_is_ignored() -> None:
    client = Clients()
    client.publish((ENDPOINTS, "chat-v1", "a"), (ENDPOINTS, "bot-v1", "b"))
    (first,) = client.ask(ENDPOINTS, "chat-v1")
    (second,) = client.answer(first, "chat-v1", "bot-v1")
    assert told([second]) == [(ENDPOINTS, {"bot-v1": "b"})]
    assert client.answer(first, "chat-v1") == []
    assert client.publish((ENDPOINTS, "chat-v1", "a2")) == []
    assert told(client.answer(second, "chat-v1", "bot-v1")) == [(ENDPOINTS, {"chat-v1": "a2"})]


def test_a_name_that_was_dropped_is_sent_again_when_it_comes_back() -> None:
    client = Clients()
    client.publish((ENDPOINTS, "chat-v1", "a"), (ENDPOINTS, "bot-v1", "b"))
    (first,) = client.ask(ENDPOINTS, "chat-v1", "bot-v1")
    assert client.answer(first, "bot-v1") == []
    assert told(client.answer(first, "bot-v1", "chat-v1")) == [(ENDPOINTS, {"chat-v1": "a"})]


def test_listeners_come_whole_so_that_a_missing_one_is_known_to_be_gone() -> None:
    client = Clients()
    client.publish((LISTENER, "chat", "a"), (LISTENER, "bot", "b"))
    (first,) = client.ask(LISTENER, "chat", "bot")
    client.answer(first, "chat", "bot")
    assert told(client.withdraw(LISTENER, "bot")) == [(LISTENER, {"chat": "a"})]


def test_a_name_nobody_knows_is_answered_where_absence_can_be_said() -> None:
    client = Clients()
    client.publish((LISTENER, "chat", "a"))
    assert told(client.ask(LISTENER, "nobody")) == [(LISTENER, {})]
    assert client.ask(ENDPOINTS, "nobody") == []


def test_routes_wait_until_the_cluster_they_lead_to_is_complete() -> None:
    client = Clients()
    client.publish((CLUSTER, "chat-v1", "c1"), (ENDPOINTS, "chat-v1", "e1"), (ROUTES, "edge", "to v1"))
    (clusters,) = client.ask(CLUSTER)
    (endpoints,) = client.ask(ENDPOINTS, "chat-v1")
    (routes,) = client.ask(ROUTES, "edge")
    client.answer(clusters)
    client.answer(endpoints, "chat-v1")
    client.answer(routes, "edge")

    (clusters,) = client.publish(
        (CLUSTER, "chat-v2", "c2"), (ENDPOINTS, "chat-v2", "e2"), (ROUTES, "edge", "to v1 and v2")
    )
    assert told([clusters]) == [(CLUSTER, {"chat-v1": "c1", "chat-v2": "c2"})]
    assert client.answer(clusters) == []
    (endpoints,) = client.answer(endpoints, "chat-v1", "chat-v2")
    assert told([endpoints]) == [(ENDPOINTS, {"chat-v2": "e2"})]
    assert told(client.answer(endpoints, "chat-v1", "chat-v2")) == [(ROUTES, {"edge": "to v1 and v2"})]


def test_a_changed_cluster_gets_its_endpoints_again() -> None:
    client = Clients()
    client.publish((CLUSTER, "chat-v1", "c1"), (ENDPOINTS, "chat-v1", "e1"))
    (clusters,) = client.ask(CLUSTER)
    (endpoints,) = client.ask(ENDPOINTS, "chat-v1")
    client.answer(clusters)
    client.answer(endpoints, "chat-v1")
    assert told(client.publish((CLUSTER, "chat-v1", "c1 changed"))) == [
        (CLUSTER, {"chat-v1": "c1 changed"}),
        (ENDPOINTS, {"chat-v1": "e1"}),
    ]


def test_the_same_resources_are_no_new_snapshot() -> None:
    feed = Feed()
    assert feed.publish([Resource(ROUTES, "chat", b"a")])
    before = feed.snapshot
    assert not feed.publish([Resource(ROUTES, "chat", b"a")])
    assert feed.snapshot is before
    assert isinstance(before, Snapshot)


def test_a_cluster_without_endpoints_of_its_own_does_not_hold_up_the_routes() -> None:
    client = Clients()
    client.publish((CLUSTER, "chat-v1", "c"), (CLUSTER, "chat-v1-first", "a"), (ENDPOINTS, "chat-v1", "e"))
    (clusters,) = client.ask(CLUSTER)
    client.answer(clusters)
    (endpoints,) = client.ask(ENDPOINTS, "chat-v1")
    client.answer(endpoints, "chat-v1")
    (routes,) = [*client.ask(ROUTES, "edge"), *client.publish((ROUTES, "edge", "r"))]
    assert told([routes]) == [(ROUTES, {"edge": "r"})]
    # A change of the routes comes too, once the client has the clusters that it leads to.
    client.answer(routes, "edge")
    assert told(client.publish((ROUTES, "edge", "r2"))) == [(ROUTES, {"edge": "r2"})]
