"""Serve a feed over ADS: `envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any as Unknown
from typing import Final

import grpc
import structlog
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any

from mesh.control.feed import Feed
from mesh.control.stream import Request, Response, Stream
from mesh.identity import names

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_log = structlog.get_logger(__name__)


class Ads:
    """The streams of all clients. A client is identified by its certificate, and `feeds` maps its name to its feed."""

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        """Serve the feed of each member that may connect."""
        self._feeds = feeds

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to add to a `grpc.aio` server."""
        method = grpc.stream_stream_rpc_method_handler(
            self._stream, request_deserializer=DiscoveryRequest.parse, response_serializer=bytes
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": method})

    async def _stream(
        self, requests: AsyncIterator[DiscoveryRequest], context: grpc.aio.ServicerContext[Unknown, Unknown]
    ) -> AsyncIterator[DiscoveryResponse]:
        name = _caller(context)
        feed = self._feeds.get(name or "")
        if feed is None:
            _log.warning("configuration refused to a caller", caller=name, peer=context.peer())
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, f"{name or 'this certificate'} is not a client of the control plane"
            )
        first = await anext(aiter(requests), None)
        if first is None:
            return
        node = (first.node.id if first.node is not None else "") or str(name)
        _log.info("client connected", caller=name, node=node)
        try:
            async for response in _talk(first, requests, feed, Stream(node)):
                yield response
        finally:
            _log.info("client left", caller=name, node=node)


async def _talk(
    first: DiscoveryRequest, requests: AsyncIterator[DiscoveryRequest], feed: Feed, stream: Stream
) -> AsyncIterator[DiscoveryResponse]:
    for response in stream.heard(_request(first), feed.snapshot):
        yield _response(response)
    newer = asyncio.Event()
    feed.listen(newer)
    reading: asyncio.Task[DiscoveryRequest | None] = asyncio.create_task(_next(requests))
    waiting = asyncio.create_task(newer.wait())
    try:
        while True:
            await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            responses = []
            if reading.done():
                request = reading.result()
                if request is None:
                    return
                responses += stream.heard(_request(request), feed.snapshot)
                reading = asyncio.create_task(_next(requests))
            if waiting.done():
                newer.clear()
                waiting = asyncio.create_task(newer.wait())
                responses += stream.news(feed.snapshot)
            for response in responses:
                yield _response(response)
    finally:
        feed.forget(newer)
        reading.cancel()
        waiting.cancel()


async def _next(requests: AsyncIterator[DiscoveryRequest]) -> DiscoveryRequest | None:
    return await anext(aiter(requests), None)


def _caller(context: grpc.aio.ServicerContext[Unknown, Unknown]) -> str | None:
    for identity in context.auth_context().get("peer_spiffe_id", ()):
        return names.name_of(identity.decode())
    return None


def _request(message: DiscoveryRequest) -> Request:
    return Request(
        type_url=message.type_url,
        names=tuple(message.resource_names),
        nonce=message.response_nonce,
        version=message.version_info,
        error=message.error_detail.message if message.error_detail is not None else "",
    )


def _response(response: Response) -> DiscoveryResponse:
    return DiscoveryResponse(
        version_info=response.version,
        type_url=response.type_url,
        nonce=response.nonce,
        resources=[Any(type_url=each.type_url, value=each.value) for each in response.resources],
    )
