"""ControlService: operators read the registry and split traffic."""

from __future__ import annotations

import grpc
from octopus.errors.v1 import errors_pb2
from octopus.mesh.v1 import mesh_service_pb2 as pb
from octopus.mesh.v1 import mesh_service_pb2_grpc, registry_pb2

from mesh.bus import Bus
from mesh.control.split import SplitError, complete
from mesh.control.watcher import Watcher
from mesh.errors import Refused


class MeshServicer(mesh_service_pb2_grpc.MeshServiceServicer):
    """MeshService."""

    def __init__(self, watcher: Watcher, bus: Bus) -> None:
        """Read from the live table, write to the `traffic` bucket."""
        self._watcher = watcher
        self._splits = bus.kv("traffic")

    async def GetMesh(
        self, request: pb.GetMeshRequest, context: grpc.aio.ServicerContext[pb.GetMeshRequest, pb.GetMeshResponse]
    ) -> pb.GetMeshResponse:
        """Return all running instances and traffic splits."""
        return pb.GetMeshResponse(
            instances=self._watcher.instances,
            splits=[
                registry_pb2.TrafficSplit(service=service, percent=percent)
                for service, percent in sorted(self._watcher.splits.items())
            ],
        )

    async def SetTrafficSplit(
        self,
        request: pb.SetTrafficSplitRequest,
        context: grpc.aio.ServicerContext[pb.SetTrafficSplitRequest, pb.SetTrafficSplitResponse],
    ) -> pb.SetTrafficSplitResponse:
        """Store or remove a split; clients follow within a second."""
        if not request.percent:
            await self._splits.delete(request.service)
            return pb.SetTrafficSplitResponse(split=registry_pb2.TrafficSplit(service=request.service))
        running = {each.version for each in self._watcher.instances if each.service == request.service}
        try:
            percent = complete(request.percent, running)
        except SplitError as error:
            raise Refused(
                errors_pb2.REASON_INVALID_ARGUMENT, str(error), violations=[("percent", str(error))]
            ) from error
        split = registry_pb2.TrafficSplit(service=request.service, percent=percent)
        await self._splits.put(request.service, split.SerializeToString())
        return pb.SetTrafficSplitResponse(split=split)
