"""Envoy's routes: the methods whose contract admits the caller `edge`, the WebSocket, and the pages. Nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities import v3 as previous_priorities
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from octopus.options.v1 import options_pb2

from edge.envoy.limits import limits
from mesh.control.contract import Method
from mesh.control.picture import Picture, Service
from mesh.control.resources import RING_SIZE, action, pack
from mesh.rpc.metadata import CLIENT_ADDRESS

WEBSOCKET_PATH: Final = "/ws"
BRIDGE: Final = "bridge"
PAGES: Final = "pages"
SHOPS: Final = "shops"

CORS_FILTER: Final = "envoy.filters.http.cors"

# Long streams live until their token ends, at most an hour; they end themselves, and this only catches what does not.
STREAM_LIFE: Final = timedelta(minutes=61)

# Both sides of a conversation send a heartbeat well within this; a stream that is silent for longer is dead.
STREAM_IDLE: Final = timedelta(seconds=90)

_CALL_TIMEOUT: Final = timedelta(seconds=30)
_FOREVER: Final = timedelta()

# What may always be sent again, for nobody can have acted on it: the connection, or the stream, was refused.
_NOT_SENT: Final = "connect-failure,refused-stream"
_MAYBE_SENT: Final = f"{_NOT_SENT},reset,unavailable"

# How much of a call is kept for sending it again. Calls are at most 256 KB.
_KEPT_BYTES: Final = 256 * 1024

_ANY_GRPC: Final = routes.RouteMatch(prefix="/", grpc=routes.RouteMatchGrpcRouteMatchOptions())

# A gRPC server resets anything else, and the caller would not learn why. Empty: a browser that asks before it calls.
_GRPC_BODY: Final = routes.HeaderMatcher(
    name="content-type",
    string_match=matcher.StringMatcher(
        safe_regex=matcher.RegexMatcher(regex=r"application/grpc(-web(-text)?)?(\+proto)?(;.*)?|")
    ),
    treat_missing_header_as_empty=True,
)

_CORS_HEADERS: Final = (
    "authorization,content-type,x-grpc-web,x-user-agent,grpc-timeout,connect-protocol-version,connect-timeout-ms,"
    "traceparent,tracestate"
)
_CORS_EXPOSED: Final = "grpc-status,grpc-message,grpc-status-details-bin,x-request-id"


def at_edge(methods: Iterable[Method]) -> list[Method]:
    """Return the methods that may be called from outside."""
    return [method for method in methods if "edge" in method.callers]


def route_table(
    name: str, picture: Picture, methods: Iterable[Method], origins: Sequence[str]
) -> routes.RouteConfiguration:
    """Return all routes of the edge."""
    services = {service.name: service for service in picture.services}
    table = [_health()]
    table += [_call(services[method.service], method) for method in at_edge(methods) if method.service in services]
    # The rest is not for outside; a gRPC client reads UNIMPLEMENTED out of this.
    table += [_nothing(routes.RouteMatch(prefix="/octopus.")), _nothing(_ANY_GRPC)]
    if BRIDGE in services:
        table.append(_websocket(services[BRIDGE]))
    if SHOPS in services:
        table.append(_pages(services[SHOPS], "/shop/"))
    if PAGES in services:
        table.append(_pages(services[PAGES], "/"))
    host = routes.VirtualHost(
        name="edge",
        domains=["*"],
        routes=table,
        # Read by now, where a proxy of ours has set it.
        request_headers_to_remove=["x-forwarded-for"],
        typed_per_filter_config={CORS_FILTER: pack(_cors(origins))},
    )
    return routes.RouteConfiguration(name=name, virtual_hosts=[host])


def _call(service: Service, method: Method) -> routes.Route:
    return routes.Route(
        match=routes.RouteMatch(path=method.path, headers=[_GRPC_BODY]),
        route=action(
            service,
            sticky=True,
            timeout=_FOREVER if method.streaming else _CALL_TIMEOUT,
            idle_timeout=STREAM_IDLE,
            retry_policy=_retry_policy(_MAYBE_SENT if method.idempotent else _NOT_SENT),
            rate_limits=limits(method.limit),
        ),
        # Overwrites a client's value: the services count attempts by it.
        request_headers_to_add=[
            core.HeaderValueOption(
                header=core.HeaderValue(key=CLIENT_ADDRESS, value="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
                append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
        # A stream is never sent again, so nothing of it is kept.
        request_body_buffer_limit=None if method.streaming else _KEPT_BYTES,
    )


def _websocket(service: Service) -> routes.Route:
    return routes.Route(
        match=routes.RouteMatch(path=WEBSOCKET_PATH),
        route=action(
            service,
            sticky=True,
            timeout=_FOREVER,
            idle_timeout=STREAM_IDLE,
            upgrade_configs=[routes.RouteActionUpgradeConfig(upgrade_type="websocket", enabled=True)],
            retry_policy=_retry_policy(_NOT_SENT),
            rate_limits=limits(options_pb2.CALL_LIMIT_STREAM),
        ),
    )


def _pages(service: Service, prefix: str) -> routes.Route:
    return routes.Route(
        match=routes.RouteMatch(prefix=prefix),
        route=action(service, sticky=True, timeout=_CALL_TIMEOUT, retry_policy=_retry_policy(_NOT_SENT)),
    )


def _health() -> routes.Route:
    return routes.Route(
        match=routes.RouteMatch(path="/healthz"), direct_response=routes.DirectResponseAction(status=200)
    )


def _nothing(match: routes.RouteMatch) -> routes.Route:
    return routes.Route(match=match, direct_response=routes.DirectResponseAction(status=404))


def _retry_policy(retry_on: str) -> routes.RetryPolicy:
    # Another instance than those that failed, as far as there is one.
    elsewhere = routes.RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(previous_hosts.PreviousHostsPredicate())
    )
    return routes.RetryPolicy(
        retry_on=retry_on,
        num_retries=2,
        retry_host_predicate=[elsewhere],
        # The last attempt goes to another version, when there is one.
        retry_priority=routes.RetryPolicyRetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=pack(previous_priorities.PreviousPrioritiesConfig(update_frequency=2)),
        ),
        # Each attempt looks one entry of the ring further, and many neighbouring entries may belong to the instance
        # that failed. Only as many attempts as the ring has entries are sure to find another; each costs nanoseconds.
        host_selection_retry_max_attempts=RING_SIZE[1],
        retry_back_off=routes.RetryPolicyRetryBackOff(
            base_interval=timedelta(milliseconds=25), max_interval=timedelta(milliseconds=250)
        ),
    )


def _cors(origins: Sequence[str]) -> cors.CorsPolicy:
    return cors.CorsPolicy(
        allow_origin_string_match=[
            matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=".*"))
            if origin == "*"
            else matcher.StringMatcher(exact=origin)
            for origin in origins
        ],
        allow_methods="GET,POST,OPTIONS",
        allow_headers=_CORS_HEADERS,
        expose_headers=_CORS_EXPOSED,
        max_age="7200",
        # Tokens travel in a header that only the page's own code can set, never in cookies.
        allow_credentials=False,
    )
