"""The built pages over HTTP: which file for which address, how long it may be kept, and what it may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from edge.pages.files import Files

# Names of built assets hold a hash of their content, so they never change. Everything else is revalidated by its tag.
_ASSETS: Final = "assets/"
_FOREVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_WIDGET: Final = "octopus-chat.js"

# Shops embed the widget in pages of their own origin, and a module script is always fetched with CORS.
_FOR_ANY_ORIGIN: Final = {"Cross-Origin-Resource-Policy": "cross-origin", "Access-Control-Allow-Origin": "*"}

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

_NO_SUCH_PAGE: Final = """<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>404 · Octopus</title>
<style>body { font: 1rem/1.6 system-ui, sans-serif; max-width: 30rem; margin: 20vh auto 0; padding: 0 1.5rem }
a { color: inherit }</style>
<main>
<h1>没有这个页面</h1>
<p lang="en">There is no such page.</p>
<p><a href="/">回到首页 · <span lang="en">To the start page</span></a></p>
</main>
</html>
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def site(dist: Path, caller_is_edge: Callable[[web.Request], bool], prefix: str = "") -> web.Application:
    """Return the web application for the pages below `prefix`; `caller_is_edge` admits connections by certificate."""
    files = Files(dist)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not caller_is_edge(request):
            raise web.HTTPForbidden(text="Only the edge may call the page server.\n")
        response = await handler(request)
        response.headers.update(_SECURITY)
        hashed = request.path.startswith(f"{prefix}/{_ASSETS}") and response.status != HTTPStatus.NOT_FOUND
        response.headers["Cache-Control"] = _FOREVER if hashed else _ASK_AGAIN
        if hashed or request.path == f"/{_WIDGET}":
            response.headers.update(_FOR_ANY_ORIGIN)
        return response

    async def page(request: web.Request) -> web.StreamResponse:
        file = files.find(request.match_info["path"])
        if file is not None:
            return files.respond(request, file)
        if not dist.exists():
            raise web.HTTPServiceUnavailable(text=_NOT_BUILT)
        return web.Response(status=HTTPStatus.NOT_FOUND, text=_NO_SUCH_PAGE, content_type="text/html")

    application = web.Application(middlewares=[guard])
    application.router.add_get(f"{prefix}/{{path:.*}}", page)
    return application
