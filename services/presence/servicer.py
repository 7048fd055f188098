"""PresenceService on the wire."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from octopus.presence.v1 import presence_service_pb2 as pb
from octopus.presence.v1 import presence_service_pb2_grpc

from mesh.rpc import principal
from mesh.rpc.timestamps import to_wire
from services.presence.domain import Device, Presence
from services.presence.store import Person, Presences

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class PresenceServicer(presence_service_pb2_grpc.PresenceServiceServicer):
    """The methods of `octopus.presence.v1.PresenceService`."""

    def __init__(self, presences: Presences) -> None:
        self._presences = presences

    async def ReportPresence(self, request: pb.ReportPresenceRequest, context: Context) -> pb.ReportPresenceResponse:
        """Take over who is connected to an instance of chat."""
        taken = await self._presences.report(
            request.instance,
            request.sequence,
            first=request.first,
            persons={
                Person(each.tenant_id, each.user_id, each.staff): [
                    Device(device.id, device.streams) for device in each.devices
                ]
                for each in request.persons
            },
        )
        return pb.ReportPresenceResponse(begin_again=not taken)

    async def GetPresence(self, request: pb.GetPresenceRequest, context: Context) -> pb.GetPresenceResponse:
        """Return the presence of one person of the caller's shop."""
        (found,) = await self._presences.of(principal.current().tenant_id, [request.user_id])
        return pb.GetPresenceResponse(presence=_wire(found))

    async def ListPresence(self, request: pb.ListPresenceRequest, context: Context) -> pb.ListPresenceResponse:
        """Return the presence of several persons, or of the staff, of the caller's shop."""
        tenant_id = principal.current().tenant_id
        user_ids = list(request.user_ids) or await self._presences.staff(tenant_id)
        return pb.ListPresenceResponse(presences=map(_wire, await self._presences.of(tenant_id, user_ids)))


def _wire(found: Presence) -> pb.Presence:
    presence = pb.Presence(
        user_id=found.user_id,
        online=found.online,
        last_seen_at=to_wire(found.last_seen_at),
        devices=[pb.Device(id=device.id, streams=device.streams) for device in found.devices],
    )
    if found.offline_for is not None:
        offline_for = Duration()
        offline_for.FromTimedelta(found.offline_for)
        presence.offline_for.CopyFrom(offline_for)
    return presence
