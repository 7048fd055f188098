"""What the supervisor says: a line for each change, with a moving line below while it waits when a person looks on."""

from __future__ import annotations

import sys
import time
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class Terminal:
    """Writes to standard output; plain lines when that is a file or a pipe."""

    def __init__(self) -> None:
        """Look whether standard output is a terminal."""
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._person = sys.stdout.isatty()
        self._waiting: Status | None = None
        self._began = time.monotonic()

    def say(self, text: str, *, mark: str = " ", style: str = "") -> None:
        """Write a line: seconds since the start, a mark, the text."""
        line = f"{time.monotonic() - self._began:6.1f} {mark} {text}"
        if self._person:
            self._console.print(line, style=style or None, markup=False)
        else:
            # Whoever reads a pipe wants each line when it is written.
            print(line, flush=True)

    def done(self, text: str) -> None:
        """Write that something succeeded."""
        self.say(text, mark="✓", style="green")

    def warn(self, text: str) -> None:
        """Write that something is wrong and what happens about it."""
        self.say(text, mark="!", style="yellow")

    def fail(self, text: str) -> None:
        """Write that something has failed, and what to do."""
        self.say(text, mark="✗", style="bold red")

    def wait(self, text: str) -> None:
        """Show what is being waited for; empty shows nothing. Nobody sees it in a pipe."""
        if not self._person:
            return
        if not text:
            if self._waiting is not None:
                self._waiting.stop()
                self._waiting = None
        elif self._waiting is None:
            self._waiting = self._console.status(text)
            self._waiting.start()
        else:
            self._waiting.update(text)

    def page(self, lines: list[tuple[str, str]]) -> None:
        """Write a small table of names and values."""
        width = max(_columns(name) for name, _ in lines)
        print(flush=True)
        for name, value in lines:
            print(f"  {name}{' ' * (width - _columns(name))}  {value}", flush=True)
        print(flush=True)


def _columns(text: str) -> int:
    """Return how wide a terminal shows the text: Chinese characters take two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
