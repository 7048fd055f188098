"""Visitors who never said anything are deleted; everybody else stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from octopus.session.v1 import session_events_pb2, session_pb2
from octopus.user.v1 import auth_service_pb2

from mesh import bus
from mesh.identity.files import Identity
from mesh.testing import Platform
from services.user.domain import NotFound, TokenInvalid
from services.user.tests.conftest import Clock, Served, Shop, open_shop, until

pytestmark = pytest.mark.store

KEPT = timedelta(days=7)


async def is_there(shop: Shop, user_id: int) -> bool:
    try:
        await shop.parts.directory.find(shop.tenant_id, user_id)
    except NotFound:
        return False
    return True


async def test_a_silent_visitor_is_deleted_after_some_days_and_one_who_spoke_is_not(shop: Shop, clock: Clock) -> None:
    silent, tokens = await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    spoke, _ = await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    agent = await shop.staff("xiaolin")
    await shop.parts.directory.set_tags(shop.tenant_id, silent.id, ["looked at"])
    await shop.parts.directory.log_out(shop.tenant_id, silent.id, actor_id=silent.id)
    for _ in range(2):
        await shop.parts.visitors.spoke(shop.tenant_id, spoke.id)
    # Said of everybody who opens a session; only visitors have anything to lose.
    await shop.parts.visitors.spoke(shop.tenant_id, agent.id)
    clock.advance(KEPT - timedelta(hours=1))
    await shop.parts.visitors.purge()
    assert await is_there(shop, silent.id)
    clock.advance(timedelta(hours=2))
    late, _ = await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    assert await shop.parts.visitors.purge() >= 1
    assert not await is_there(shop, silent.id)
    for user in (spoke, agent, late):
        assert await is_there(shop, user.id)
    assert tokens.refresh is not None
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(tokens.refresh.token)


async def test_thousands_are_deleted_in_batches(shop: Shop, migrated: Platform, clock: Clock) -> None:
    values = f"'{shop.tenant_id}', 1, '{{3}}', 'x', now() - interval '8 days'"
    await migrated.postgres.execute(
        "INSERT INTO cs_user (id, tenant_id, kind, roles, display_name, created_at) "  # noqa: S608
        f"SELECT 4000000 + n, {values} FROM generate_series(1, 1234) n"
    )
    assert await shop.parts.visitors.purge() >= 1234
    assert await shop.parts.visitors.purge() == 0


async def test_the_service_notes_who_opened_a_session(served: Served, migrated: Platform) -> None:
    tenant_id = (await open_shop(served.parts)).tenant_id
    opened = session_events_pb2.SessionEvent(
        session=session_pb2.Session(id=served.parts.sign_in.ids.next(), tenant_id=tenant_id)
    )
    visiting = auth_service_pb2.IdentifyShopperRequest(tenant_id=tenant_id)
    visitor = (await served.auth.IdentifyShopper(visiting)).user
    opened.session.customer_id = visitor.id
    opened.opened.SetInParent()
    session = Identity(migrated.identity, "session")
    async with bus.connect(migrated.nats_url, "session", tls=session.client_context) as connected:
        await connected.publish(f"event.session.{tenant_id}.{opened.session.id}", opened, message_id=tenant_id)

    async def noted() -> bool:
        rows = await migrated.postgres.execute(f"SELECT spoke FROM cs_user WHERE id = {visitor.id}")  # noqa: S608
        return rows == [(True,)]

    await until(noted)
