"""The page server, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge.pages.shop import DemoShops
from edge.pages.site import site

pytestmark = pytest.mark.unit


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "agent").mkdir()
    (dist / "index.html").write_text("landing")
    (dist / "agent" / "index.html").write_text("console")
    (dist / "assets" / "app-1234.js").write_text("1")
    (tmp_path / "outside.txt").write_text("secret")
    secrets = tmp_path / "logins.json"
    secrets.write_bytes(orjson.dumps({"shops": {"qingshan": {"identity_secret": "s3cret"}}}))
    admitted = site(dist, DemoShops(secrets), lambda request: "X-Stranger" not in request.headers)
    async with TestClient(TestServer(admitted)) as client:
        yield client


async def test_a_folder_is_its_page(client: TestClient) -> None:  # type: ignore[type-arg]
    for path, words in (("/", "landing"), ("/agent", "console"), ("/agent/", "console")):
        response = await client.get(path)
        assert await response.text() == words
        assert response.headers["Cache-Control"] == "no-cache"
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]


async def test_assets_are_kept_for_ever(client: TestClient) -> None:  # type: ignore[type-arg]
    response = await client.get("/assets/app-1234.js")
    assert "immutable" in response.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/nothing", "/../outside.txt", "/%2e%2e/outside.txt", "/assets"])
async def test_nothing_outside_the_pages_is_served(client: TestClient, path: str) -> None:  # type: ignore[type-arg]
    response = await client.get(path)
    assert response.status == 404
    assert "secret" not in await response.text()


async def test_who_is_not_the_edge_is_turned_away(client: TestClient) -> None:  # type: ignore[type-arg]
    assert (await client.get("/", headers={"X-Stranger": "yes"})).status == 403


async def test_the_demo_shop_signs_its_customers(client: TestClient) -> None:  # type: ignore[type-arg]
    response = await client.post("/shop/qingshan/identity?customer=li-lei")
    identity = await response.json()
    text = f"qingshan\nli-lei\n李雷\n{identity['signedAtUnix']}"
    assert identity["signature"] == hmac.new(b"s3cret", text.encode(), hashlib.sha256).hexdigest()
    assert (await client.post("/shop/qingshan/identity?customer=nobody")).status == 404
    assert (await client.post("/shop/unknown/identity")).status == 404


async def test_pages_that_were_not_built_say_so(tmp_path: Path) -> None:
    async with TestClient(TestServer(site(tmp_path, DemoShops(None), lambda _: True))) as client:
        response = await client.get("/")
        assert response.status == 503
        assert "make web" in await response.text()
