"""Replace a file in one step."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a file beside `path` and rename it: a reader sees the old content or the new, and the mode from the start.

    A string is written as UTF-8. Raise OSError.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    beside.replace(path)
