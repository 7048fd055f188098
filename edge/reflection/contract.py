"""The rules of reflection: who may call it. The contract is gRPC's own and has no options of ours."""

from __future__ import annotations

from typing import Final

from octopus.options.v1 import options_pb2

from mesh.control.contract import Method as Route
from mesh.rpc.policy import Method

NAME: Final = "reflection"
EDGE: Final = "edge"

# Clients ask for v1 first; older ones know v1alpha only. The messages are the same.
SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD: Final = "ServerReflectionInfo"

# Shoppers have no use for it. Partners need a token that lets them call something.
ROLES: Final = frozenset(
    {
        options_pb2.ROLE_AGENT,
        options_pb2.ROLE_SUPERVISOR,
        options_pb2.ROLE_KNOWLEDGE_ADMIN,
        options_pb2.ROLE_ADMIN,
        options_pb2.ROLE_PARTNER,
    }
)


def rules(scopes: frozenset[str]) -> dict[str, Method]:
    """Return who may call each version; a partner with one of the scopes."""
    return {service: Method(f"/{service}/{METHOD}", ROLES, frozenset({EDGE}), scopes) for service in SERVICES}


def routes() -> list[Route]:
    """Return the methods as the edge routes them."""
    return [
        Route(
            service=NAME,
            path=f"/{service}/{METHOD}",
            idempotent=False,
            streaming=True,
            anyone=False,
            callers=frozenset({EDGE}),
            limit=options_pb2.CALL_LIMIT_UNSPECIFIED,
        )
        for service in SERVICES
    ]
