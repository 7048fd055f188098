"""The page server, over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge.pages.site import site

pytestmark = pytest.mark.unit


WIDGET = b"the widget's script, as it was built"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """The pages as a build leaves them."""
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "agent").mkdir()
    (dist / "index.html").write_text("landing")
    (dist / "agent" / "index.html").write_text("console")
    (dist / "assets" / "app-1234.js").write_text("1")
    (dist / "octopus-chat.js").write_bytes(WIDGET)
    for suffix, body in (("br", b"in br"), ("gz", b"in gzip, longer"), ("zst", b"in zstd, long")):
        (dist / f"octopus-chat.js.{suffix}").write_bytes(body)
    return dist


@pytest.fixture
async def client(dist: Path, tmp_path: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    (tmp_path / "outside.txt").write_text("secret")
    admitted = site(dist, lambda request: "X-Stranger" not in request.headers)
    async with TestClient(TestServer(admitted)) as client:
        yield client


async def test_a_folder_is_its_page(client: TestClient) -> None:  # type: ignore[type-arg]
    for path, words in (("/", "landing"), ("/agent", "console"), ("/agent/", "console")):
        response = await client.get(path)
        assert await response.text() == words
        assert response.headers["Cache-Control"] == "no-cache"
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]


async def test_assets_are_kept_for_ever_and_any_shop_may_load_them(client: TestClient) -> None:  # type: ignore[type-arg]
    response = await client.get("/assets/app-1234.js")
    assert "immutable" in response.headers["Cache-Control"]
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    for path in ("/assets/app-1234.js", "/octopus-chat.js"):
        response = await client.get(path)
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Access-Control-Allow-Origin" not in (await client.get("/agent/")).headers


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("br;q=0.5, gzip;q=0.9", "gzip"),
        ("gzip;q=0, br;q=0", None),
        ("br;q=0, *", "zstd"),
        ("identity, gzip;q=0.1", None),
        ("GZIP ; q=0.3", "gzip"),
        ("deflate", None),
        ("", None),
        ("br;q=nonsense", None),
        (None, None),
    ],
)
async def test_the_client_says_which_encoding_it_reads(
    client: TestClient,  # type: ignore[type-arg]
    accept: str | None,
    coding: str | None,
) -> None:
    status, headers, body = await raw(
        client, "/octopus-chat.js", *([f"Accept-Encoding: {accept}"] if accept is not None else [])
    )
    assert status == 200
    assert headers.get("content-encoding") == coding
    assert body == {None: WIDGET, "br": b"in br", "gzip": b"in gzip, longer", "zstd": b"in zstd, long"}[coding]
    assert headers["vary"] == "Accept-Encoding"
    assert headers["content-type"] == "text/javascript; charset=utf-8"


async def test_what_is_known_by_its_tag_is_not_sent_again(client: TestClient) -> None:  # type: ignore[type-arg]
    tags = set()
    for accept in ("br", "gzip", "identity"):
        _, headers, _ = await raw(client, "/octopus-chat.js", f"Accept-Encoding: {accept}")
        tags.add(headers["etag"])
        for known in (headers["etag"], f'"other", W/{headers["etag"]}', "*"):
            status, again, body = await raw(
                client, "/octopus-chat.js", f"Accept-Encoding: {accept}", f"If-None-Match: {known}"
            )
            assert (status, body) == (304, b"")
            assert (again["etag"], again["vary"], again["cache-control"]) == (
                headers["etag"],
                "Accept-Encoding",
                "no-cache",
            )
    assert len(tags) == 3, "each encoding is a representation of its own"
    status, _, _ = await raw(client, "/octopus-chat.js", "Accept-Encoding: br", 'If-None-Match: "another"')
    assert status == 200


async def test_a_head_tells_what_a_get_would_and_sends_nothing(client: TestClient) -> None:  # type: ignore[type-arg]
    _, of_get, body = await raw(client, "/octopus-chat.js", "Accept-Encoding: br")
    status, of_head, nothing = await raw(client, "/octopus-chat.js", "Accept-Encoding: br", method="HEAD")
    assert (status, nothing) == (200, b"")
    assert of_head["content-length"] == str(len(body))
    assert {key: value for key, value in of_head.items() if key != "date"} == {
        key: value for key, value in of_get.items() if key != "date"
    }


@pytest.mark.parametrize(
    ("wanted", "status", "part", "content_range"),
    [
        ("bytes=0-3", 206, WIDGET[:4], f"bytes 0-3/{len(WIDGET)}"),
        ("bytes=4-", 206, WIDGET[4:], f"bytes 4-{len(WIDGET) - 1}/{len(WIDGET)}"),
        ("bytes=-5", 206, WIDGET[-5:], f"bytes {len(WIDGET) - 5}-{len(WIDGET) - 1}/{len(WIDGET)}"),
        ("bytes=100000-", 416, b"", f"bytes */{len(WIDGET)}"),
        ("bytes=0-1,3-4", 200, WIDGET, None),
        ("lines=1-2", 200, WIDGET, None),
        ("bytes=9-3", 200, WIDGET, None),
    ],
)
async def test_a_range_is_one_of_the_file_itself(
    client: TestClient,  # type: ignore[type-arg]
    wanted: str,
    status: int,
    part: bytes,
    content_range: str | None,
) -> None:
    told, headers, body = await raw(client, "/octopus-chat.js", f"Range: {wanted}", "Accept-Encoding: br")
    assert (told, body, headers.get("content-range")) == (status, part, content_range)
    assert "content-encoding" not in headers


async def test_a_range_of_what_has_changed_is_the_whole(client: TestClient) -> None:  # type: ignore[type-arg]
    status, _, body = await raw(client, "/octopus-chat.js", "Range: bytes=0-3", 'If-Range: "of another build"')
    assert (status, body) == (200, WIDGET)


async def test_a_new_build_is_served_at_once(client: TestClient, dist: Path) -> None:  # type: ignore[type-arg]
    _, before, _ = await raw(client, "/octopus-chat.js", "Accept-Encoding: br")
    (dist / "octopus-chat.js").write_bytes(b"a new build, not compressed yet")
    later = (dist / "octopus-chat.js.br").stat().st_mtime_ns + 1_000_000_000
    os.utime(dist / "octopus-chat.js", ns=(later, later))
    _, after, body = await raw(client, "/octopus-chat.js", "Accept-Encoding: br", f"If-None-Match: {before['etag']}")
    assert body == b"a new build, not compressed yet", "the compressed copy is of the build before"
    assert "content-encoding" not in after


async def test_compressed_copies_have_no_address_of_their_own(client: TestClient) -> None:  # type: ignore[type-arg]
    assert (await client.get("/octopus-chat.js.br")).status == 404


async def raw(client: TestClient, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:  # type: ignore[type-arg]
    """Ask without a client's own ideas about headers and encodings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    lines = (f"{method} {path} HTTP/1.1", "Host: octopus", "Connection: close", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *rest = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in rest)
    return int(status.split()[1]), {name.lower(): value for name, value in pairs}, body


@pytest.mark.parametrize("path", ["/nothing", "/../outside.txt", "/%2e%2e/outside.txt", "/assets"])
async def test_nothing_outside_the_pages_is_served(client: TestClient, path: str) -> None:  # type: ignore[type-arg]
    response = await client.get(path)
    assert response.status == 404
    assert "secret" not in await response.text()


async def test_who_is_not_the_edge_is_turned_away(client: TestClient) -> None:  # type: ignore[type-arg]
    assert (await client.get("/", headers={"X-Stranger": "yes"})).status == 403


async def test_pages_that_were_not_built_say_so(tmp_path: Path) -> None:
    async with TestClient(TestServer(site(tmp_path / "dist", lambda _: True))) as client:
        response = await client.get("/")
        assert response.status == 503
        assert "make web" in await response.text()
