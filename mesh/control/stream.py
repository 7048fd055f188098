"""One client's state-of-the-world ADS stream: subscriptions, acknowledged versions, next response. No I/O.

The protocol: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from mesh.control.feed import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource, Snapshot

# Clusters before what routes to them: a client must never get a route to a cluster that it does not have.
_ORDER: Final = (CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES)

# A response of these types contains everything the client subscribed to; of the other types, the changes.
_WHOLE: Final = frozenset({CLUSTER, LISTENER})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """The parts of a discovery request that are used."""

    type_url: str
    names: tuple[str, ...] = ()
    nonce: str = ""
    version: str = ""
    # Why the client refused the response with this nonce.
    error: str = ""


@dataclass(frozen=True)
class Response:
    """A discovery response."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]


@dataclass
class _Subscription:
    names: frozenset[str]
    # A client that never named a cluster or a listener wants all of them; Envoy does.
    wildcard: bool
    sent: dict[str, Resource] = field(default_factory=dict)
    nonce: str = ""
    # Whether the client has yet to answer the last response.
    waiting: bool = False
    refused: bool = False

    def wants(self, available: dict[str, Resource]) -> dict[str, Resource]:
        return dict(available) if self.wildcard else {name: available[name] for name in self.names if name in available}


class Stream:
    """The state of one stream."""

    def __init__(self, node: str) -> None:
        """`node` names the client in logs."""
        self._node = node
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonces = itertools.count(1)

    def heard(self, request: Request, snapshot: Snapshot | None) -> list[Response]:
        """Take a request and return what to send now."""
        subscription = self._subscriptions.get(request.type_url)
        names = frozenset(request.names)
        if subscription is None:
            subscription = _Subscription(names, wildcard=not names and request.type_url in _WHOLE)
            self._subscriptions[request.type_url] = subscription
            return self._answer(request.type_url, subscription, snapshot, asked=True)
        if request.nonce != subscription.nonce:
            # An answer to an older response; the answer to the newest follows.
            return []
        if subscription.waiting:
            subscription.waiting = False
            subscription.refused = bool(request.error)
            if request.error:
                _log.error(
                    "configuration refused by a client",
                    node=self._node,
                    type=_short(request.type_url),
                    reason=request.error,
                )
        added, subscription.names = names - subscription.names, names
        subscription.wildcard = subscription.wildcard and not names
        for name in subscription.sent.keys() - names if not subscription.wildcard else ():
            # The client drops resources it no longer names, and gets them again when it names them again.
            del subscription.sent[name]
        return [*self._answer(request.type_url, subscription, snapshot, asked=bool(added)), *self.news(snapshot)]

    def news(self, snapshot: Snapshot | None) -> list[Response]:
        """Return what to send because the snapshot has changed, or because the client is ready for more."""
        responses = []
        for type_url in _ORDER:
            subscription = self._subscriptions.get(type_url)
            if subscription is not None and not subscription.waiting and not self._must_wait(type_url, snapshot):
                responses += self._answer(type_url, subscription, snapshot, asked=False)
        return responses

    def _must_wait(self, type_url: str, snapshot: Snapshot | None) -> bool:
        """Return whether a route would arrive before its cluster.

        Applies to clients that subscribe to all clusters. The others name clusters after they have received the routes.
        """
        clusters = self._subscriptions.get(CLUSTER)
        if type_url not in (LISTENER, ROUTES) or clusters is None or not clusters.wildcard or clusters.refused:
            return False
        endpoints = self._subscriptions.get(ENDPOINTS)
        if clusters.waiting or endpoints is None:
            return clusters.waiting or bool(clusters.sent)
        # An aggregate of clusters has no endpoints of its own.
        with_endpoints = snapshot.resources.get(ENDPOINTS, {}).keys() if snapshot else frozenset()
        return endpoints.waiting or not clusters.sent.keys() & with_endpoints <= endpoints.names

    def _answer(
        self, type_url: str, subscription: _Subscription, snapshot: Snapshot | None, *, asked: bool
    ) -> list[Response]:
        """Return the response that is due, if any; `asked` is for names the client has just added."""
        if snapshot is None:
            return []
        wanted = subscription.wants(dict(snapshot.resources.get(type_url, {})))
        changed = {name: resource for name, resource in wanted.items() if subscription.sent.get(name) != resource}
        if type_url in _WHOLE:
            if not asked and wanted == subscription.sent:
                return []
            self._renew_endpoints(type_url, subscription, changed)
            content = wanted
        else:
            # A name that does not exist is left out: the client waits for it, as the protocol demands.
            if not changed:
                return []
            content = changed
        subscription.sent = wanted
        subscription.nonce = str(next(self._nonces))
        subscription.waiting = True
        return [Response(type_url, snapshot.version, subscription.nonce, _sorted(content.values()))]

    def _renew_endpoints(self, type_url: str, clusters: _Subscription, changed: dict[str, Resource]) -> None:
        """Send the endpoints of changed clusters again: a client waits for them even if they are the same."""
        endpoints = self._subscriptions.get(ENDPOINTS)
        if type_url == CLUSTER and endpoints is not None:
            for name in changed.keys() & clusters.sent.keys():
                endpoints.sent.pop(name, None)


def _sorted(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    return tuple(sorted(resources, key=lambda resource: resource.name))


def _short(type_url: str) -> str:
    return type_url.rsplit(".", 1)[-1]
