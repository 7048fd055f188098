"""Revoke every token of a user, on real stores: what is stored and published, and which tokens are still valid."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from octopus.user.v1 import user_events_pb2 as pb

from mesh.errors import Refused
from mesh.process.member import Member
from mesh.testing import Platform
from services.user.config import UserConfig
from services.user.domain import CredentialsWrong, Invalid, NotFound, TokenInvalid, User
from services.user.people.directory import UserChange
from services.user.sign_in import Tokens
from services.user.tests.conftest import PASSWORD, Clock, Shop, open_shop, until
from services.user.tokens.revocation import BUCKET

pytestmark = pytest.mark.store

ADMIN = 1
NEW_PASSWORD = "another long password"


def refresh_token(tokens: Tokens) -> str:
    assert tokens.refresh is not None
    return tokens.refresh.token


async def audited(platform: Platform, user: User) -> list[tuple[int, str]]:
    rows = await platform.postgres.execute(
        # The owner's statements take no parameters; an id of ours is a number.
        f"SELECT actor_id, action FROM cs_user_audit WHERE user_id = {user.id} ORDER BY id"  # noqa: S608
    )
    return [(actor, action) for actor, action in rows]


async def told(platform: Platform, user: User) -> list[tuple[str, str, bytes]]:
    """Return what waits in the outbox about a user; no relay runs here."""
    rows = await platform.postgres.execute(
        f"SELECT subject, type, payload FROM cs_user_outbox WHERE subject LIKE '%.{user.id}' ORDER BY id"  # noqa: S608
    )
    return [(subject, kind, bytes(payload)) for subject, kind, payload in rows]


async def test_disabling_is_told_to_servers_and_services_in_the_same_transaction(
    shop: Shop, migrated: Platform
) -> None:
    user = await shop.staff("xiaolin")
    disabled = UserChange(disabled=True)
    for _ in range(2):
        await shop.parts.directory.change(shop.tenant_id, user.id, disabled, actor_id=ADMIN)
    messages = await told(migrated, user)
    (entry,) = [payload for subject, _, payload in messages if subject == f"$KV.{BUCKET}.{shop.tenant_id}.{user.id}"]
    revoked = pb.Revocation.FromString(entry)
    assert (revoked.generation, revoked.cause) == (1, pb.LOG_OUT_CAUSE_DISABLED)
    events = [pb.UserEvent.FromString(payload) for subject, _, payload in messages if subject.startswith("event.")]
    assert [event.WhichOneof("change") for event in events] == ["created", "updated", "logged_out"]
    assert events[-1].user.disabled
    assert (events[-1].logged_out.cause, events[-1].logged_out.generation) == (pb.LOG_OUT_CAUSE_DISABLED, 1)
    await shop.parts.directory.change(shop.tenant_id, user.id, UserChange(disabled=False), actor_id=ADMIN)
    assert await audited(migrated, user) == [(ADMIN, "disabled"), (ADMIN, "enabled")]


async def test_a_log_out_everywhere_ends_every_refresh_token_and_the_next_log_in_is_of_a_new_generation(
    shop: Shop, migrated: Platform
) -> None:
    user = await shop.staff("xiaolin")
    before = [await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD) for _ in range(2)]
    await shop.parts.directory.log_out(shop.tenant_id, user.id, actor_id=user.id)
    for _, tokens in before:
        with pytest.raises(TokenInvalid):
            await shop.parts.sign_in.refresh(refresh_token(tokens))
    again, _ = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    assert again.token_generation == 1
    await shop.parts.directory.log_out(shop.tenant_id, user.id, actor_id=ADMIN)
    assert await audited(migrated, user) == [(user.id, "logged_out"), (ADMIN, "logged_out")]
    other = await open_shop(shop.parts)
    with pytest.raises(NotFound):
        await shop.parts.directory.log_out(other.tenant_id, user.id, actor_id=ADMIN)


async def test_a_new_password_replaces_the_old_one_and_ends_the_other_sessions(shop: Shop, migrated: Platform) -> None:
    user = await shop.staff("xiaolin")
    _, elsewhere = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    with pytest.raises(CredentialsWrong):
        await shop.parts.sign_in.change_password(shop.tenant_id, user.id, "not the old one", NEW_PASSWORD)
    with pytest.raises(Invalid):
        await shop.parts.sign_in.change_password(shop.tenant_id, user.id, PASSWORD, PASSWORD)
    assert await audited(migrated, user) == []
    tokens = await shop.parts.sign_in.change_password(shop.tenant_id, user.id, PASSWORD, NEW_PASSWORD)
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(elsewhere))
    with pytest.raises(CredentialsWrong):
        await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    # The device that changed it goes on.
    await shop.parts.sign_in.refresh(refresh_token(tokens))
    again, _ = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", NEW_PASSWORD)
    assert again.token_generation == 1
    assert await audited(migrated, user) == [(user.id, "password_changed")]


async def test_of_two_changes_at_once_one_is_refused(shop: Shop) -> None:
    user = await shop.staff("xiaolin")
    changes = (
        shop.parts.sign_in.change_password(shop.tenant_id, user.id, PASSWORD, f"{NEW_PASSWORD} {n}") for n in range(2)
    )
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)] == [CredentialsWrong]


async def test_what_was_taken_back_is_published_again_when_the_bus_has_lost_it(
    shop: Shop, member: Member, config: UserConfig, clock: Clock
) -> None:
    user = await shop.staff("xiaolin")
    await shop.parts.directory.log_out(shop.tenant_id, user.id, actor_id=user.id)
    key = f"{shop.tenant_id}.{user.id}"
    # No relay runs here, so the bucket knows nothing yet: as after the loss of its data.
    assert await member.bus.kv(BUCKET).get(key) is None
    await shop.parts.revocations.publish()
    entry = await member.bus.kv(BUCKET).get(key)
    assert entry is not None
    assert entry.value is not None
    assert pb.Revocation.FromString(entry.value).generation == 1
    # A newer one that has come meanwhile stays.
    newer = pb.Revocation(generation=2).SerializeToString()
    await member.bus.kv(BUCKET).put(key, newer)
    await shop.parts.revocations.publish()
    entry = await member.bus.kv(BUCKET).get(key)
    assert entry is not None
    assert entry.value == newer

    # A process that starts later knows it too.
    async with Member(config.model_copy(update={"instance": "user-later"})) as later:

        async def refused() -> bool:
            try:
                later.keys.revocations.check(shop.tenant_id, user.id, 1)
            except Refused:
                return True
            return False

        await until(refused)
    clock.advance(timedelta(hours=1))
    assert await shop.parts.revocations.sweep() >= 1
