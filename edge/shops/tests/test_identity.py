"""What the demo shops' server does beside serving pages."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge.pages.site import site
from edge.shops.identity import PREFIX, add_identities

pytestmark = pytest.mark.unit


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    shop = tmp_path / "dist" / "qingshan"
    shop.mkdir(parents=True)
    (shop / "index.html").write_text("a shop")
    (tmp_path / "dist" / "assets").mkdir()
    (tmp_path / "dist" / "assets" / "shop-1234.js").write_text("1")
    application = site(tmp_path / "dist", lambda request: "X-Stranger" not in request.headers, prefix=PREFIX)
    add_identities(application, tmp_path / "logins.json")
    async with TestClient(TestServer(application)) as client:
        yield client


async def test_the_shops_pages_are_below_their_prefix(client: TestClient) -> None:  # type: ignore[type-arg]
    assert await (await client.get("/shop/qingshan/")).text() == "a shop"
    assert "immutable" in (await client.get("/shop/assets/shop-1234.js")).headers["Cache-Control"]
    assert (await client.get("/qingshan/")).status == 404


async def test_the_demo_shop_signs_its_customers_once_its_data_is_loaded(client: TestClient, tmp_path: Path) -> None:  # type: ignore[type-arg]
    assert (await client.post("/shop/qingshan/identity?customer=li-lei")).status == 404
    (tmp_path / "logins.json").write_bytes(orjson.dumps({"shops": {"qingshan": {"identity_secret": "s3cret"}}}))
    response = await client.post("/shop/qingshan/identity?customer=li-lei")
    identity = await response.json()
    text = f"qingshan\nli-lei\n李雷\n{identity['signedAtUnix']}"
    assert identity["signature"] == hmac.new(b"s3cret", text.encode(), hashlib.sha256).hexdigest()
    assert (await client.post("/shop/qingshan/identity?customer=nobody")).status == 404
    assert (await client.post("/shop/unknown/identity")).status == 404


async def test_who_is_not_the_edge_gets_no_signature(client: TestClient) -> None:  # type: ignore[type-arg]
    assert (await client.post("/shop/qingshan/identity", headers={"X-Stranger": "yes"})).status == 403
