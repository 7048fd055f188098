"""The published contracts, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge.pages.downloads import add_downloads
from edge.pages.site import site

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "contracts"


@pytest.fixture
async def client(folder: Path, tmp_path: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    (tmp_path / "index.html").write_text("secret")
    application = site(tmp_path / "dist", lambda _request: True)
    add_downloads(application, folder)
    async with TestClient(TestServer(application)) as client:
        yield client


def build(folder: Path) -> None:
    folder.mkdir()
    (folder / "index.json").write_text('{"sha256": {}}')
    (folder / "octopus-contracts.tar.gz").write_bytes(b"archive")


async def test_a_file_is_told_by_its_hash_and_not_sent_twice(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    build(folder)
    first = await client.get("/contracts/octopus-contracts.tar.gz")
    assert (first.status, await first.read()) == (200, b"archive")
    assert first.content_type == "application/gzip"
    assert "Content-Encoding" not in first.headers, "it is an archive, not an encoding of something else"
    again = await client.get("/contracts/octopus-contracts.tar.gz", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    (folder / "octopus-contracts.tar.gz").write_bytes(b"another")
    changed = await client.get("/contracts/octopus-contracts.tar.gz", headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status, await changed.read()) == (200, b"another")


async def test_the_folder_names_what_is_there(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    build(folder)
    response = await client.get("/contracts/")
    assert await response.json() == {"sha256": {}}


async def test_who_asks_before_they_are_built_or_for_another_file_is_told_so(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    missing = await client.get("/contracts/octopus.binpb")
    assert (missing.status, "make contracts" in await missing.text()) == (503, True)
    build(folder)
    unknown = await client.get("/contracts/octopus.zip")
    assert (unknown.status, "index.json" in await unknown.text()) == (404, True)
    assert (await client.get("/contracts/..%2Findex.html")).status == 404
