"""The built pages over HTTP: which file for which address, how long it may be kept, and what it may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from edge.pages.shop import DemoShops

# Names of built assets hold a hash of their content, so they never change.
_ASSETS: Final = "/assets/"
_FOREVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"

# Pages run their own scripts only. Styles may be inline: the widget carries its own into its shadow root.
_SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_NOT_BUILT: Final = "The pages are not built. Run `make web` and reload.\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def site(dist: Path, shops: DemoShops, caller_is_edge: Callable[[web.Request], bool]) -> web.Application:
    """Return the web application; `caller_is_edge` admits connections by their certificate."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not caller_is_edge(request):
            raise web.HTTPForbidden(text="Only the edge may call the page server.\n")
        response = await handler(request)
        response.headers.update(_SECURITY)
        response.headers["Cache-Control"] = _FOREVER if request.path.startswith(_ASSETS) else _ASK_AGAIN
        return response

    async def page(request: web.Request) -> web.StreamResponse:
        file = _file(dist, request.match_info["path"])
        if file is None:
            if not (dist / "index.html").exists():
                raise web.HTTPServiceUnavailable(text=_NOT_BUILT)
            raise web.HTTPNotFound(text="There is no such page.\n")
        if file.name == "octopus-chat.js":
            # Shops embed the widget in pages of their own origin.
            return web.FileResponse(file, headers={"Cross-Origin-Resource-Policy": "cross-origin"})
        return web.FileResponse(file)

    application = web.Application(middlewares=[guard])
    application.router.add_post("/shop/{tenant}/identity", shops.identity)
    application.router.add_get("/{path:.*}", page)
    return application


def _file(dist: Path, path: str) -> Path | None:
    """Return the file of an address: itself, or the page of a folder. None when there is none inside `dist`."""
    wanted = (dist / path).resolve()
    if not wanted.is_relative_to(dist.resolve()):
        return None
    if wanted.is_dir():
        wanted /= "index.html"
    return wanted if wanted.is_file() else None
