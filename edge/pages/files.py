"""The built files: where they are, in which encodings, and how a request is answered with one."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from edge.pages.negotiation import IDENTITY, preferred

# Suffixes of the copies that `make web` compresses.
_SUFFIXES: Final = {"br": ".br", "gzip": ".gz", "zstd": ".zst"}

# Not left to the machine's own table, which may lack them or call them otherwise.
_TYPES: Final = {
    ".binpb": "application/x-protobuf",
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".whl": "application/zip",
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class _Content:
    modified_ns: int
    body: bytes
    tag: str


class Files:
    """The files below a folder, read once and again when they change: `make web` replaces them under a running server.

    They are few and small, so they are kept in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, _Content] = {}

    def find(self, path: str) -> Path | None:
        """Return the file of an address: itself, or the page of a folder. None when there is none inside the folder."""
        if "\0" in path:
            return None
        wanted = (self._folder / path).resolve()
        if not wanted.is_relative_to(self._folder.resolve()):
            return None
        if wanted.is_dir():
            wanted /= "index.html"
        # Compressed copies have no address of their own.
        is_copy = wanted.suffix in _SUFFIXES.values() and wanted.with_suffix("").is_file()
        return wanted if wanted.is_file() and not is_copy else None

    def respond(self, request: web.Request, file: Path) -> web.Response:
        """Answer a GET or HEAD with a file: encoded as the client prefers, revalidated by tag, or one range of it."""
        codings = {IDENTITY: self._content(file)}
        for coding, suffix in _SUFFIXES.items():
            copy = file.with_name(file.name + suffix)
            # A copy that is older than its file belongs to another build.
            if copy.is_file() and copy.stat().st_mtime_ns >= codings[IDENTITY].modified_ns:
                codings[coding] = self._content(copy)
        sizes = {coding: len(content.body) for coding, content in codings.items()}
        # A range is one of the file itself.
        coding = IDENTITY if "Range" in request.headers else preferred(request.headers.get("Accept-Encoding"), sizes)
        content = codings[coding]
        headers = {"ETag": f'"{content.tag}"', "Accept-Ranges": "bytes"}
        if len(codings) > 1:
            headers["Vary"] = "Accept-Encoding"
        if coding != IDENTITY:
            headers["Content-Encoding"] = coding
        if _unchanged(request, content.tag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        body, status = content.body, HTTPStatus.OK
        if (part := _range(request, content)) is not None:
            if not part:
                headers["Content-Range"] = f"bytes */{len(body)}"
                return web.Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(body)}"
            body, status = body[part.start : part.stop], HTTPStatus.PARTIAL_CONTENT
        return web.Response(
            status=status, body=body, headers=headers, content_type=_type(file), charset=_charset(_type(file))
        )

    def _content(self, file: Path) -> _Content:
        modified_ns = file.stat().st_mtime_ns
        kept = self._kept.get(file)
        if kept is None or kept.modified_ns != modified_ns:
            body = file.read_bytes()
            # Of the encoded bytes: a strong tag names one representation.
            kept = self._kept[file] = _Content(modified_ns, body, hashlib.sha256(body).hexdigest()[:20])
        return kept


def _unchanged(request: web.Request, tag: str) -> bool:
    known = request.if_none_match
    return known is not None and any(one.value in (tag, "*") for one in known)


def _range(request: web.Request, content: _Content) -> range | None:
    """Return the wanted part; empty when it lies outside, None when the whole file is to be sent.

    Several ranges, other units and anything malformed mean the whole file, as does `If-Range` with another tag.
    """
    header = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    if header is None or "," in header or (condition is not None and condition.strip('"') != content.tag):
        return None
    try:
        wanted = request.http_range
    except ValueError:
        return None
    if wanted.start is None and wanted.stop is None:
        return None
    start, stop, _ = wanted.indices(len(content.body))
    return range(start, stop)


def _type(file: Path) -> str:
    return _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def _charset(content_type: str) -> str | None:
    return "utf-8" if content_type.startswith("text/") else None
