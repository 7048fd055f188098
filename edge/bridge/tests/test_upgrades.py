"""What is a WebSocket from outside, and where its client is."""

from __future__ import annotations

import socket
import struct

import pytest

from edge.bridge.rate_limit import RateLimit
from edge.bridge.upgrades import announced, undecided, upgrade

pytestmark = pytest.mark.unit

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="


def announcement(address: str, command: int = 0x21) -> bytes:
    six = ":" in address
    packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address)
    body = packed + packed + struct.pack("!HH", 50_000, 443)
    return SIGNATURE + struct.pack("!BBH", command, 0x21 if six else 0x11, len(body)) + body


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", bytes((192, 0, 2, 7))),
        ("2001:db8:1:2:3:4:5:6", bytes.fromhex("20010db800010002")),
        ("::ffff:192.0.2.7", bytes((192, 0, 2, 7))),
    ],
)
def test_the_edge_says_where_a_client_is(address: str, network: bytes) -> None:
    data = announcement(address) + b"GET /"
    for cut in range(len(data) - 5):
        assert announced(data[:cut]) is None
    found = announced(data)
    assert found is not None
    assert (found.network, data[found.size :]) == (network, b"GET /")


def test_an_announcement_without_an_address_is_nobody_in_particular() -> None:
    found = announced(announcement("192.0.2.7", command=0x20))
    assert found is not None
    assert found.network == b""


@pytest.mark.parametrize("data", [b"GET /ws HTTP/1.1", SIGNATURE + b"\x11\x11\x00\x00", b"PROXY TCP4 1.2.3.4"])
def test_what_is_no_announcement_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="PROXY"):
        announced(data)


def request(*lines: bytes, first: bytes = b"GET /ws HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("wanted", "connection"),
    [
        (b"Upgrade: websocket", b"Connection: Upgrade"),
        # As Firefox says it.
        (b"upgrade: WebSocket", b"connection: keep-alive, Upgrade"),
    ],
)
def test_an_upgrade_is_passed_on_with_the_headers_that_matter(wanted: bytes, connection: bytes) -> None:
    data = request(
        b"Host: shop.example", wanted, connection, KEY, b"Sec-WebSocket-Version: 13", b"Cookie: a=b", b"octopus-user: 7"
    )
    passed_on = upgrade(data + b"\x82")
    assert passed_on is not None
    head, _, rest = passed_on.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"GET /ws HTTP/1.1", b"Upgrade: websocket", b"Connection: Upgrade", KEY, b"sec-websocket-version: 13",
    ]  # fmt: skip
    assert rest == b"\x82"


HOST, UPGRADE, CONNECTION = b"host: a", b"upgrade: websocket", b"connection: upgrade"


@pytest.mark.parametrize(
    "data",
    [
        request(HOST, UPGRADE, CONNECTION, first=b"GET / HTTP/1.1"),
        request(HOST, UPGRADE, CONNECTION, first=b"GET /ws?token=secret HTTP/1.1"),
        request(HOST, UPGRADE, CONNECTION, first=b"POST /ws HTTP/1.1"),
        request(HOST, UPGRADE, CONNECTION, first=b"GET /ws HTTP/1.0"),
        request(HOST, UPGRADE),
        request(HOST, CONNECTION),
        request(HOST, b"upgrade: h2c", CONNECTION),
        request(UPGRADE, CONNECTION),
        request(HOST, b"host: b", UPGRADE, CONNECTION),
        request(HOST, UPGRADE, CONNECTION, b"content-length: 3"),
        request(HOST, UPGRADE, CONNECTION, b"Transfer-Encoding: chunked"),
        request(HOST, UPGRADE, CONNECTION, b" folded"),
        request(HOST, UPGRADE, CONNECTION, b"authorization : Bearer x"),
        request(HOST, UPGRADE, CONNECTION, b"no colon"),
        request(HOST, UPGRADE, CONNECTION, b"x: \x00"),
        request(HOST, UPGRADE, CONNECTION, *([b"x: y"] * 64)),
        request(HOST, UPGRADE, CONNECTION, b"x: " + b"y" * 16_384),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_everything_else_is_left_to_envoy(data: bytes) -> None:
    assert not undecided(data)
    assert upgrade(data) is None


def test_a_request_is_waited_for_as_long_as_it_may_be_an_upgrade() -> None:
    data = request(HOST, UPGRADE, CONNECTION)
    assert all(undecided(data[:cut]) for cut in range(len(data)))
    assert not undecided(data)
    assert not undecided(b"GET /w/")
    assert not undecided(b"\x16")
    assert not undecided(b"GET /ws HTTP/1.1\r\n" + b"x" * 20_000)


def test_an_address_has_its_own_bucket_that_fills_again() -> None:
    rate_limit = RateLimit(60)
    assert [rate_limit.spend(b"one", 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert rate_limit.spend(b"two", 0.0)
    assert not rate_limit.spend(b"one", 0.5)
    assert rate_limit.spend(b"one", 1.6)
    assert not rate_limit.spend(b"one", 1.7)


def test_addresses_that_were_quiet_are_forgotten() -> None:
    rate_limit = RateLimit(60)
    assert rate_limit.spend(b"busy", 100.0)
    for number in range(20_000):
        rate_limit.spend(number.to_bytes(4), 0.0 if number < 19_000 else 100.0)
    assert rate_limit.remembered < 2_000
    assert not all(rate_limit.spend(b"busy", 100.0) for _ in range(60))
