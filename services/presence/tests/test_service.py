"""PresenceService with every interceptor: who may report, and who may look."""

from __future__ import annotations

from functools import partial

import grpc
import pytest
from octopus.errors.v1 import errors_pb2
from octopus.presence.v1 import presence_service_pb2 as pb
from octopus.presence.v1.presence_service_pb2_grpc import (
    PresenceServiceStub,
    add_PresenceServiceServicer_to_server,
)

from mesh.errors import Refused
from mesh.process.config import ServiceConfig
from mesh.process.member import Member
from mesh.rpc.metadata import as_service, with_token
from mesh.testing import Platform
from mesh.testing.rpc import Keys, dialling, serving
from services.presence.servicer import PresenceServicer
from services.presence.store import Presences

pytestmark = pytest.mark.service

SHOP, AGENT, SHOPPER = "presence-service", 7, 70


async def test_chat_reports_and_only_staff_of_the_shop_see_it(migrated: Platform) -> None:
    keys = Keys()
    report = pb.ReportPresenceRequest(
        instance="chat-1.abc",
        sequence=1,
        first=True,
        persons=[
            pb.ConnectedPerson(tenant_id=SHOP, user_id=AGENT, staff=True, devices=[pb.Device(id="desk", streams=2)]),
            pb.ConnectedPerson(tenant_id=SHOP, user_id=SHOPPER, devices=[pb.Device(streams=1)]),
        ],
    )
    async with Member(migrated.config("presence", ServiceConfig)) as member:
        servicer = PresenceServicer(Presences(await member.valkey(), prefix="presence:{service-test}"))
        add = partial(add_PresenceServiceServicer_to_server, servicer)
        async with (
            serving(migrated.identity, "presence", keys, add) as address,
            dialling(migrated.identity, "edge", "presence", address) as edge,
            dialling(migrated.identity, "chat", "presence", address) as chat,
            dialling(migrated.identity, "session", "presence", address) as session,
        ):
            assert not (await PresenceServiceStub(chat).ReportPresence(report)).begin_again
            assert (await PresenceServiceStub(chat).ReportPresence(report)).begin_again
            people = PresenceServiceStub(edge)
            colleague = with_token(keys.token(SHOP, 8, "AGENT"))
            staff = await people.ListPresence(pb.ListPresenceRequest(), metadata=colleague)
            assert [(each.user_id, each.online) for each in staff.presences] == [(AGENT, True)]
            mine = await people.GetPresence(pb.GetPresenceRequest(user_id=AGENT), metadata=colleague)
            assert list(mine.presence.devices) == [pb.Device(id="desk", streams=2)]
            asked = await PresenceServiceStub(session).ListPresence(
                pb.ListPresenceRequest(user_ids=[SHOPPER, 9]), metadata=as_service(SHOP)
            )
            assert [(each.user_id, each.online, each.HasField("offline_for")) for each in asked.presences] == [
                (SHOPPER, True, False),
                (9, False, True),
            ]
            elsewhere = with_token(keys.token("another-shop", 8, "AGENT", "SUPERVISOR"))
            hidden = await people.GetPresence(pb.GetPresenceRequest(user_id=AGENT), metadata=elsewhere)
            assert not hidden.presence.online
            assert not hidden.presence.HasField("last_seen_at")
            assert not (await people.ListPresence(pb.ListPresenceRequest(), metadata=elsewhere)).presences
            for role in ("CUSTOMER", "VISITOR", "PARTNER"):
                with pytest.raises(Refused) as refused:
                    await people.ListPresence(
                        pb.ListPresenceRequest(), metadata=with_token(keys.token(SHOP, SHOPPER, role))
                    )
                assert refused.value.reason == errors_pb2.REASON_ROLE_NOT_ALLOWED
            for others in (edge, session):
                with pytest.raises((Refused, grpc.aio.AioRpcError)):
                    await PresenceServiceStub(others).ReportPresence(report, metadata=colleague)
