"""The rules of users, in numbers and at their edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from octopus.errors.v1 import errors_pb2
from octopus.options.v1 import options_pb2
from octopus.user.v1 import user_pb2

from services.user import domain
from services.user.domain import Invalid, Kind, RefreshToken, Role, SignedShopper, Standing

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SECRET = b"the shop's secret"
USER = domain.User(
    id=7,
    tenant_id="qingshan",
    kind=Kind.STAFF,
    roles=(Role.AGENT,),
    display_name="小林",
    external_id="xiaolin",
    created_at=NOW,
)
SHOP = domain.Tenant("qingshan", "青衫服饰", "Qingshan", disabled=False)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_kinds_and_roles_have_the_numbers_of_the_contract() -> None:
    assert {f"USER_KIND_{kind.name}": int(kind) for kind in Kind} == dict(user_pb2.UserKind.items()[1:])
    contract = dict(options_pb2.Role.items())
    assert all(int(contract[f"ROLE_{role.name}"]) == int(role) for role in Role)


def test_every_error_has_a_reason_of_the_contract() -> None:
    for error in domain.UserError.__subclasses__():
        assert f"REASON_{error.reason}" in errors_pb2.Reason.keys()  # noqa: SIM118  # an enum wrapper, not a dict


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        (Kind.STAFF, [Role.AGENT]),
        (Kind.STAFF, [Role.ADMIN, Role.AGENT, Role.SUPERVISOR, Role.KNOWLEDGE_ADMIN]),
        (Kind.PARTNER, [Role.PARTNER]),
    ],
)
def test_roles_fit_the_kind(kind: Kind, roles: list[Role]) -> None:
    assert domain.check_new(kind, [*roles, *roles], (), 0) == tuple(sorted(roles))


@pytest.mark.parametrize(
    ("kind", "roles", "scopes", "capacity", "field"),
    [
        (Kind.STAFF, [], [], 0, "roles"),
        (Kind.STAFF, [Role.PARTNER], [], 0, "roles"),
        (Kind.STAFF, [Role.AGENT, Role.CUSTOMER], [], 0, "roles"),
        (Kind.PARTNER, [Role.ADMIN], [], 0, "roles"),
        (Kind.STAFF, [Role.AGENT], ["chat.read"], 0, "scopes"),
        (Kind.PARTNER, [Role.PARTNER], [], 3, "capacity"),
    ],
)
def test_what_does_not_fit_the_kind_is_named(
    kind: Kind, roles: list[Role], scopes: list[str], capacity: int, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        domain.check_new(kind, roles, scopes, capacity)
    assert [name for name, _ in refused.value.violations] == [field]


@pytest.mark.parametrize(
    ("phone", "shown"), [("+8613812345678", "**********5678"), ("1234", "****"), ("12345", "*2345"), ("", "")]
)
def test_a_masked_phone_shows_its_last_four_digits(phone: str, shown: str) -> None:
    assert domain.masked_phone(phone) == shown


def test_a_visitors_name_is_in_the_shoppers_language() -> None:
    assert domain.visitor_name(123_450_042, "zh-CN") == "访客 0042"
    assert domain.visitor_name(123_450_042, "") == "访客 0042"
    assert domain.visitor_name(123_450_042, "en-GB") == "Visitor 0042"


def test_who_may_log_in() -> None:
    domain.may_log_in(USER, SHOP)
    with pytest.raises(domain.Disabled, match="the user"):
        domain.may_log_in(replace(USER, disabled=True), SHOP)
    with pytest.raises(domain.Disabled, match="the shop"):
        domain.may_log_in(USER, replace(SHOP, disabled=True))
    with pytest.raises(domain.TokenInvalid):
        domain.may_log_in(replace(USER, kind=Kind.VISITOR, merged_into=9), SHOP)


def test_a_partner_gets_the_scopes_it_wants_and_holds() -> None:
    assert domain.granted_scopes(["chat.read", "faq.write"], []) == ("chat.read", "faq.write")
    assert domain.granted_scopes(["chat.read", "faq.write"], ["faq.write", "faq.write"]) == ("faq.write",)
    with pytest.raises(Invalid, match="not given: chat"):
        domain.granted_scopes(["chat.read"], ["chat.read", "chat.write"])


def signed(tenant: str = "qingshan", customer: str = "c-1", name: str = "小明", at: datetime = NOW) -> SignedShopper:
    stamp = int(at.timestamp())
    signature = domain.sign_identity(SECRET, domain.identity_text(tenant, customer, name, stamp))
    return SignedShopper(customer, name, stamp, signature)


def test_the_signed_text_is_as_the_contract_says() -> None:
    assert domain.identity_text("qingshan", "c-1", "小明", 1700000000) == "qingshan\nc-1\n小明\n1700000000".encode()
    # From: printf 't\nc\nn\n1' | openssl dgst -sha256 -hmac key
    right = "0ffed775e00252e39662be67c7cc34dca1860019eb8f22d07826b740ffbfd315"
    assert domain.sign_identity(b"key", domain.identity_text("t", "c", "n", 1)) == right


@pytest.mark.parametrize("off", [-300, -1, 0, 299, 300])
def test_a_right_signature_of_the_last_five_minutes_counts(off: int) -> None:
    domain.check_identity(SECRET, "qingshan", signed(at=NOW + seconds(off)), NOW)


@pytest.mark.parametrize("off", [-301, 301, -86400])
def test_an_old_or_future_signature_does_not_count(off: int) -> None:
    with pytest.raises(domain.CredentialsWrong):
        domain.check_identity(SECRET, "qingshan", signed(at=NOW + seconds(off)), NOW)


@pytest.mark.parametrize(
    "forged",
    [
        replace(signed(), customer_id="c-2"),
        replace(signed(), display_name="别人"),
        replace(signed(), signed_at_unix=int(NOW.timestamp()) + 1),
        replace(signed(), signature="0" * 64),
        replace(signed(), signature=signed().signature.upper()),
        signed(tenant="xinghe"),
    ],
)
def test_a_forged_identity_is_refused(forged: SignedShopper) -> None:
    with pytest.raises(domain.CredentialsWrong):
        domain.check_identity(SECRET, "qingshan", forged, NOW)


def test_a_name_cannot_move_into_the_customers_id() -> None:
    stamp = int(NOW.timestamp())
    bought = domain.sign_identity(SECRET, domain.identity_text("qingshan", "c-1", "8\nfoo", stamp))
    moved = SignedShopper("c-1\n8", "foo", stamp, bought)
    with pytest.raises(Invalid):
        domain.check_identity(SECRET, "qingshan", moved, NOW)


TOKEN = RefreshToken("qingshan", 7, 1, expires_at=NOW + timedelta(days=1))
USED = replace(TOKEN, used_at=NOW, successor_hash=b"next")


@pytest.mark.parametrize(
    ("token", "at", "means"),
    [
        (TOKEN, NOW, Standing.FRESH),
        (TOKEN, TOKEN.expires_at - seconds(0.001), Standing.FRESH),
        (TOKEN, TOKEN.expires_at, Standing.EXPIRED),
        (USED, NOW + seconds(10), Standing.REPEATED),
        (USED, NOW + seconds(10.001), Standing.STOLEN),
        (replace(USED, successor_used=True), NOW + seconds(1), Standing.STOLEN),
        (USED, NOW + timedelta(days=9), Standing.STOLEN),
        (replace(TOKEN, revoked_at=NOW), NOW, Standing.REVOKED),
        (replace(USED, revoked_at=NOW), NOW + seconds(1), Standing.REVOKED),
    ],
)
def test_what_a_refresh_token_means(token: RefreshToken, at: datetime, means: Standing) -> None:
    assert domain.standing(token, at) is means


MONTH = timedelta(days=30)


def test_the_first_key_signs_at_once_and_the_next_one_after_its_publication() -> None:
    assert domain.next_activation({}, NOW, MONTH) == NOW
    assert domain.next_activation({"a": NOW}, NOW + MONTH - seconds(1), MONTH) is None
    assert domain.next_activation({"a": NOW}, NOW + MONTH, MONTH) == NOW + MONTH + domain.KEY_LEAD


def test_a_second_instance_makes_no_second_key() -> None:
    later = NOW + MONTH
    keys = {"a": NOW, "b": later + domain.KEY_LEAD}
    assert domain.next_activation(keys, later, MONTH) is None


def test_the_newest_active_key_signs() -> None:
    keys = {"a": NOW, "b": NOW + seconds(60)}
    assert domain.signing_key(keys, NOW + seconds(59)) == "a"
    assert domain.signing_key(keys, NOW + seconds(60)) == "b"
    assert domain.signing_key(keys, NOW - seconds(1)) == "a"
    assert domain.signing_key({}, NOW) is None


def test_a_replaced_key_verifies_until_its_last_token_has_ended() -> None:
    keys = {"a": NOW, "b": NOW + MONTH}
    last_token_of_a = NOW + MONTH + domain.ACCESS_LIFETIME
    assert domain.ended_keys(keys, last_token_of_a) == set()
    assert domain.ended_keys(keys, NOW + MONTH + domain.KEY_TAIL + seconds(1)) == {"a"}
    assert domain.ended_keys({"a": NOW}, NOW + 100 * MONTH) == set()
