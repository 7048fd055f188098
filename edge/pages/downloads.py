"""The published contracts, for download: what `make contracts` has written."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from edge.pages.files import Files

PATH: Final = "/contracts/"
_INDEX: Final = "index.json"

_NOT_BUILT: Final = "The contracts are not built. Run `make contracts` and reload.\n"
_UNKNOWN: Final = f"There is no such file; {PATH}{_INDEX} names those that there are.\n"


def add_downloads(application: web.Application, folder: Path) -> None:
    """Serve the files of a folder below `/contracts/`; the folder itself answers with the names and sums of them."""
    files = Files(folder)

    async def download(request: web.Request) -> web.StreamResponse:
        file = files.find(request.match_info["name"] or _INDEX)
        if file is not None:
            return files.respond(request, file)
        if files.find(_INDEX) is None:
            raise web.HTTPServiceUnavailable(text=_NOT_BUILT)
        return web.Response(status=HTTPStatus.NOT_FOUND, text=_UNKNOWN)

    application.router.add_get(f"{PATH}{{name:[^/]*}}", download)
