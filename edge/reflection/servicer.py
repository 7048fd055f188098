"""The reflection service, in both versions of its contract."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from edge.reflection.contract import METHOD, SERVICES
from edge.reflection.published import Published


def handlers(contracts: Published) -> Iterator[grpc.GenericRpcHandler]:
    """Yield a handler for each version. They have the same messages by different names: one servicer answers both."""
    servicer = reflection.aio.ReflectionServicer(contracts.services, contracts.pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in SERVICES:
        yield grpc.method_handlers_generic_handler(service, {METHOD: handler})
