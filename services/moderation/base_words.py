"""The words that come with the platform, by category: `base/<category>.txt`, one a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from services.moderation.domain import DEFAULTS

_FOLDER: Final = Path(__file__).parent / "base"


def read() -> Mapping[str, Sequence[str]]:
    """Return the words of each category, in the order of the files."""
    return {category: _words(_FOLDER / f"{category}.txt") for category in DEFAULTS}


def _words(path: Path) -> Sequence[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
