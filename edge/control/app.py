"""The one place that wires the control plane: the registry on one side, channels and Envoy on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octopus.mesh.v1.mesh_service_pb2_grpc import add_MeshServiceServicer_to_server

from edge.control.config import ControlConfig
from edge.envoy.bootstrap import prepare
from edge.envoy.resources import edge_resources
from mesh.control import ads
from mesh.control.contract import methods
from mesh.control.plane import ControlPlane
from mesh.control.servicer import MeshServicer
from mesh.identity import names
from mesh.manifest import manifests
from mesh.process.member import Member


@asynccontextmanager
async def app(member: Member, config: ControlConfig) -> AsyncIterator[None]:
    """Write what Envoy starts with, follow the registry, and serve the feed and MeshService."""
    prepare(config)
    # What need not run is expected once it was seen.
    expected = {name for name, program in manifests().items() if not program.demo_only} - {member.config.name}
    plane = ControlPlane(member.bus, edge_resources(config, methods()), expected=expected)
    member.spawn("control plane", plane.run())
    servicer = MeshServicer(plane.watcher, member.bus)
    await member.serve(
        lambda server: server.add_generic_rpc_handlers((plane.ads.handler(),)),
        lambda server: add_MeshServiceServicer_to_server(servicer, server),
        others={ads.SERVICE: names.members()},
    )
    yield
