"""The properties of each method in the contracts, read from the descriptors: the source of all routes."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import ServiceDescriptor
from octopus.options.v1 import options_pb2

from mesh.identity import names

_IDEMPOTENT = frozenset({descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENT})


@dataclass(frozen=True)
class Method:
    """One RPC."""

    # The mesh service that serves it, e.g. "chat".
    service: str
    # Its HTTP/2 path, e.g. "/octopus.chat.v1.ChatService/Send".
    path: str
    # Whether it may be retried when its outcome is unknown.
    idempotent: bool
    # Whether either side sends a stream.
    streaming: bool
    # Whether it may be called without a token.
    anyone: bool
    # The names whose certificate may call it.
    callers: frozenset[str]
    # How the edge limits one client's calls; a value of octopus.options.v1.CallLimit.
    limit: int


@cache
def methods() -> tuple[Method, ...]:
    """Return the methods of all services of the mesh, by path."""
    found = []
    for service in (*names.services(), names.ECHO):
        package = importlib.import_module(f"octopus.{service}.v1")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_service_pb2"):
                descriptor = importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR
                for each in descriptor.services_by_name.values():
                    found += _methods_of(service, each)
    return tuple(sorted(found, key=lambda method: method.path))


def _methods_of(service: str, descriptor: ServiceDescriptor) -> list[Method]:
    found = []
    for method in descriptor.methods:
        options = method.GetOptions()
        access = options.Extensions[options_pb2.access]
        found.append(
            Method(
                service=service,
                path=f"/{descriptor.full_name}/{method.name}",
                idempotent=options.idempotency_level in _IDEMPOTENT,
                streaming=method.client_streaming or method.server_streaming,
                anyone=options_pb2.ROLE_ANYONE in access.roles,
                callers=frozenset(access.callers),
                limit=options.Extensions[options_pb2.limit],
            )
        )
    return found
