"""From proofs of identity to tokens, on real stores and under a clock of the test's."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import jwt
import pytest

from mesh.testing import Platform
from services.user import domain
from services.user.domain import (
    CredentialsWrong,
    Disabled,
    Invalid,
    Kind,
    NotFound,
    Role,
    SignedShopper,
    Tenant,
    TokenExpired,
    TokenInvalid,
)
from services.user.people.directory import NewUser, UserChange
from services.user.sign_in import Tokens
from services.user.tests.conftest import PASSWORD, SECRET, Clock, Shop, open_shop

pytestmark = pytest.mark.store


def signed(shop: Shop, customer: str = "c-1", name: str = "小明") -> SignedShopper:
    stamp = int(shop.parts.sign_in.clock().timestamp())
    text = domain.identity_text(shop.tenant_id, customer, name, stamp)
    return SignedShopper(customer, name, stamp, domain.sign_identity(SECRET, text))


def refresh_token(tokens: Tokens) -> str:
    assert tokens.refresh is not None
    return tokens.refresh.token


def claims(shop: Shop, token: str) -> dict[str, object]:
    """Verify as any service would, with nothing but the published keys."""
    keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(shop.parts.keys.key_set())["keys"]}
    kid = jwt.get_unverified_header(token)["kid"]
    verified: dict[str, object] = jwt.decode(
        token,
        keys[kid],
        ["EdDSA"],
        audience="octopus",
        issuer="octopus",
        # The test's clock may be ahead.
        options={"verify_iat": False},
    )
    return verified


async def test_staff_log_in_and_the_token_says_who_they_are(shop: Shop) -> None:
    made = await shop.staff("xiaolin", Role.AGENT, Role.SUPERVISOR)
    user, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    told = claims(shop, tokens.access)
    assert user == made
    assert (told["sub"], told["tid"], told["name"]) == (str(made.id), shop.tenant_id, "小林")
    assert (told["roles"], told["scope"]) == (["AGENT", "SUPERVISOR"], "")
    assert int(str(told["exp"])) - int(str(told["iat"])) == domain.ACCESS_LIFETIME.total_seconds()


@pytest.mark.parametrize(
    ("login", "password"), [("xiaolin", "wrong password"), ("nobody", PASSWORD), ("erp-1", PASSWORD)]
)
async def test_wrong_name_and_wrong_password_are_not_told_apart(shop: Shop, login: str, password: str) -> None:
    await shop.staff("xiaolin")
    with pytest.raises(CredentialsWrong, match="the name or the password is wrong"):
        await shop.parts.sign_in.log_in(shop.tenant_id, login, password)


async def test_a_name_that_nobody_has_costs_as_long_as_a_wrong_password(shop: Shop) -> None:
    await shop.staff("xiaolin")

    async def seconds(login: str) -> float:
        loop, times = asyncio.get_running_loop(), []
        for _ in range(4):
            begun = loop.time()
            with pytest.raises(CredentialsWrong):
                await shop.parts.sign_in.log_in(shop.tenant_id, login, "wrong password")
            times.append(loop.time() - begun)
        return min(times)

    known, unknown = await seconds("xiaolin"), await seconds("nobody")
    # Argon2 is nearly all of it; skipping it for unknown names would make the ratio about 10.
    assert 0.5 < unknown / known < 2


async def test_a_disabled_user_is_refused_everywhere_and_enabled_has_to_log_in_again(shop: Shop) -> None:
    user = await shop.staff("xiaolin")
    _, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    await shop.parts.directory.change(shop.tenant_id, user.id, UserChange(disabled=True), actor_id=1)
    with pytest.raises(Disabled):
        await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    with pytest.raises(CredentialsWrong):
        await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", "wrong password")
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(tokens))
    await shop.parts.directory.change(shop.tenant_id, user.id, UserChange(disabled=False), actor_id=1)
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(tokens))
    await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)


async def test_nobody_logs_in_to_a_disabled_shop(shop: Shop) -> None:
    await shop.staff("xiaolin")
    _, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    async with shop.parts.db.tenant(shop.tenant_id) as conn:
        await shop.parts.users.put_tenant(conn, Tenant(shop.tenant_id, "关门", "Closed", disabled=True), SECRET)
    for attempt in (
        shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD),
        shop.parts.sign_in.refresh(refresh_token(tokens)),
        shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN"),
        shop.parts.sign_in.identify(shop.tenant_id, signed(shop), "zh-CN"),
    ):
        with pytest.raises(Disabled):
            await attempt


async def test_a_signed_customer_is_the_same_one_at_every_visit(shop: Shop) -> None:
    visiting = (shop.parts.sign_in.identify(shop.tenant_id, signed(shop), "zh-CN") for _ in range(4))
    visits = await asyncio.gather(*visiting)
    assert len({user.id for user, _ in visits}) == 1
    renamed, tokens = await shop.parts.sign_in.identify(shop.tenant_id, signed(shop, name="大明"), "")
    assert (renamed.id, renamed.display_name, renamed.locale) == (visits[0][0].id, "大明", "zh-CN")
    assert claims(shop, tokens.access)["roles"] == ["CUSTOMER"]


async def test_a_forged_customer_is_refused(shop: Shop) -> None:
    other = await open_shop(shop.parts)
    right = signed(shop)
    for tenant_id, forged in (
        (shop.tenant_id, SignedShopper("c-2", right.display_name, right.signed_at_unix, right.signature)),
        (other.tenant_id, right),
        ("no-such-shop", right),
    ):
        with pytest.raises(CredentialsWrong):
            await shop.parts.sign_in.identify(tenant_id, forged, "")


async def test_a_signature_does_not_count_after_five_minutes(shop: Shop, clock: Clock) -> None:
    shopper = signed(shop)
    clock.advance(domain.SIGNATURE_TOLERANCE + timedelta(seconds=2))
    with pytest.raises(CredentialsWrong):
        await shop.parts.sign_in.identify(shop.tenant_id, shopper, "")


async def test_every_visitor_is_a_new_one(shop: Shop) -> None:
    one, tokens = await shop.parts.sign_in.identify(shop.tenant_id, None, "en-US")
    two, _ = await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    assert one.id != two.id
    assert one.display_name.startswith("Visitor ")
    assert two.display_name.startswith("访客 ")
    assert claims(shop, tokens.access)["roles"] == ["VISITOR"]
    with pytest.raises(NotFound):
        await shop.parts.sign_in.identify("no-such-shop", None, "")


async def test_a_partner_gets_the_scopes_it_holds_and_no_refresh_token(shop: Shop) -> None:
    new = NewUser(
        request_id="request-erp",
        kind=Kind.PARTNER,
        external_id="erp",
        display_name="ERP",
        roles=[Role.PARTNER],
        password=PASSWORD,
        scopes=["chat.read", "faq.read"],
    )
    await shop.parts.directory.create(shop.tenant_id, new)
    scopes, tokens = await shop.parts.sign_in.client_token(shop.tenant_id, "erp", PASSWORD, ["chat.read"])
    assert (scopes, tokens.refresh) == (("chat.read",), None)
    assert claims(shop, tokens.access)["scope"] == "chat.read"
    all_scopes, _ = await shop.parts.sign_in.client_token(shop.tenant_id, "erp", PASSWORD, [])
    assert all_scopes == ("chat.read", "faq.read")
    with pytest.raises(Invalid):
        await shop.parts.sign_in.client_token(shop.tenant_id, "erp", PASSWORD, ["chat.write"])
    with pytest.raises(CredentialsWrong):
        await shop.parts.sign_in.client_token(shop.tenant_id, "erp", "wrong secret", [])


async def test_a_refresh_token_is_used_up_and_its_successor_goes_on(shop: Shop, clock: Clock) -> None:
    await shop.staff("xiaolin")
    _, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    seen = {refresh_token(tokens)}
    for _ in range(3):
        clock.advance(timedelta(minutes=10))
        tokens = await shop.parts.sign_in.refresh(refresh_token(tokens))
        seen.add(refresh_token(tokens))
        claims(shop, tokens.access)
    assert len(seen) == 4


async def test_a_client_that_did_not_get_the_answer_gets_the_same_one_again(shop: Shop, clock: Clock) -> None:
    await shop.staff("xiaolin")
    _, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    answers = await asyncio.gather(*(shop.parts.sign_in.refresh(refresh_token(tokens)) for _ in range(4)))
    assert len({refresh_token(answer) for answer in answers}) == 1
    clock.advance(domain.REFRESH_RETRY)
    assert refresh_token(await shop.parts.sign_in.refresh(refresh_token(tokens))) == refresh_token(answers[0])


async def test_a_used_token_that_comes_back_late_ends_the_whole_family(shop: Shop, clock: Clock) -> None:
    await shop.staff("xiaolin")
    _, first = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    _, elsewhere = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    second = await shop.parts.sign_in.refresh(refresh_token(first))
    clock.advance(domain.REFRESH_RETRY + timedelta(seconds=1))
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(first))
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(second))
    await shop.parts.sign_in.refresh(refresh_token(elsewhere))


async def test_a_used_token_whose_successor_was_used_is_stolen_even_at_once(shop: Shop) -> None:
    await shop.staff("xiaolin")
    _, first = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    second = await shop.parts.sign_in.refresh(refresh_token(first))
    third = await shop.parts.sign_in.refresh(refresh_token(second))
    for stolen in (first, third):
        with pytest.raises(TokenInvalid):
            await shop.parts.sign_in.refresh(refresh_token(stolen))


async def test_an_old_token_has_expired(shop: Shop, clock: Clock) -> None:
    await shop.staff("xiaolin")
    _, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    clock.advance(domain.REFRESH_LIFETIME)
    with pytest.raises(TokenExpired):
        await shop.parts.sign_in.refresh(refresh_token(tokens))


@pytest.mark.parametrize(
    "token", ["", "x", "qingshan.short", f"no-such-shop.{'A' * 43}", f"Qingshan.{'A' * 43}", "é" * 60]
)
async def test_what_is_no_token_is_refused_and_revoking_it_succeeds(shop: Shop, token: str) -> None:
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(token)
    await shop.parts.refresh_tokens.revoke(token)


async def test_revoking_ends_the_family_and_can_be_repeated(shop: Shop) -> None:
    await shop.staff("xiaolin")
    _, first = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    second = await shop.parts.sign_in.refresh(refresh_token(first))
    for _ in range(2):
        await shop.parts.refresh_tokens.revoke(refresh_token(first))
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(second))


async def test_only_a_hash_of_a_refresh_token_is_stored(shop: Shop, migrated: Platform) -> None:
    await shop.staff("xiaolin")
    _, tokens = await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    secret = refresh_token(tokens).partition(".")[2]
    rows = await migrated.postgres.execute("SELECT t::text FROM cs_refresh_token t")
    assert rows
    assert not any(secret in row for (row,) in rows)


async def test_a_visitor_becomes_the_customer(shop: Shop) -> None:
    visitor, visiting = await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    customer, _ = await shop.parts.sign_in.identify(shop.tenant_id, signed(shop), "zh-CN")
    await shop.parts.directory.set_tags(shop.tenant_id, visitor.id, ["从广告来"])
    merged = await shop.parts.directory.merge(shop.tenant_id, customer.id, refresh_token(visiting))
    assert (merged.id, merged.tags) == (customer.id, ("从广告来",))
    assert (await shop.parts.directory.find(shop.tenant_id, visitor.id)).merged_into == customer.id
    with pytest.raises(TokenInvalid):
        await shop.parts.sign_in.refresh(refresh_token(visiting))
    again = await shop.parts.directory.merge(shop.tenant_id, customer.id, refresh_token(visiting))
    assert again == merged


async def test_a_visitor_becomes_one_customer_only(shop: Shop) -> None:
    _, visiting = await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    one, _ = await shop.parts.sign_in.identify(shop.tenant_id, signed(shop, "c-1"), "")
    two, two_tokens = await shop.parts.sign_in.identify(shop.tenant_id, signed(shop, "c-2"), "")
    await shop.parts.directory.merge(shop.tenant_id, one.id, refresh_token(visiting))
    with pytest.raises(TokenInvalid):
        await shop.parts.directory.merge(shop.tenant_id, two.id, refresh_token(visiting))
    with pytest.raises(CredentialsWrong):
        await shop.parts.directory.merge(shop.tenant_id, one.id, refresh_token(two_tokens))


async def test_a_visitor_of_another_shop_cannot_be_merged(shop: Shop) -> None:
    other = await open_shop(shop.parts)
    _, visiting = await other.parts.sign_in.identify(other.tenant_id, None, "")
    customer, _ = await shop.parts.sign_in.identify(shop.tenant_id, signed(shop), "")
    with pytest.raises(CredentialsWrong):
        await shop.parts.directory.merge(shop.tenant_id, customer.id, refresh_token(visiting))


async def test_staff_log_in_after_valkey_forgot_everything(shop: Shop, migrated: Platform) -> None:
    await shop.staff("xiaolin")
    await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
    await migrated.valkey.wipe()
    await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)


async def test_people_log_in_and_arrive_while_valkey_is_away(shop: Shop, migrated: Platform) -> None:
    await shop.staff("xiaolin")
    await migrated.valkey.stop()
    try:
        await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
        await shop.parts.sign_in.identify(shop.tenant_id, signed(shop), "zh-CN")
        await shop.parts.sign_in.identify(shop.tenant_id, None, "zh-CN")
    finally:
        await migrated.valkey.start()
    await shop.parts.sign_in.log_in(shop.tenant_id, "xiaolin", PASSWORD)
