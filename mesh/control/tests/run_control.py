"""A control plane without an edge, in a process of its own: `python -m mesh.control.tests.run_control SETTINGS`."""

from __future__ import annotations

import asyncio
import sys

from octopus.mesh.v1.mesh_service_pb2_grpc import add_MeshServiceServicer_to_server

from mesh import bus
from mesh.control import ads
from mesh.control.plane import ControlPlane
from mesh.control.servicer import MeshServicer
from mesh.identity import names
from mesh.identity.files import Identity
from mesh.process.config import ServiceConfig
from mesh.rpc.server import build
from mesh.rpc.tokens import TokenVerifier


async def main(config: ServiceConfig) -> None:
    identity = Identity(config.identity, config.name)
    async with bus.connect(config.nats_url, config.name, tls=identity.client_context) as connected:
        plane = ControlPlane(connected, lambda _: [], expected=names.services())
        servicer = MeshServicer(plane.watcher, connected)
        server = build(
            identity,
            TokenVerifier(),
            lambda server: server.add_generic_rpc_handlers((plane.ads.handler(),)),
            lambda server: add_MeshServiceServicer_to_server(servicer, server),
            port=config.port,
            others={ads.SERVICE: names.members()},
        )
        await server.start()
        await plane.run()


if __name__ == "__main__":
    asyncio.run(main(ServiceConfig.model_validate_json(sys.argv[1])))
